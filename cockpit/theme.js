/** Light or dark, as the rest of Cockpit: it keeps the choice in the browser's storage. */

const SYSTEM = matchMedia("(prefers-color-scheme: dark)");

function follow() {
  const chosen = localStorage.getItem("shell:style") || "auto";
  const dark = chosen === "dark" || (chosen === "auto" && SYSTEM.matches);
  document.documentElement.classList.toggle("dark", dark);
}

follow();
SYSTEM.addEventListener("change", follow);
addEventListener("storage", follow);
addEventListener("cockpit-style", follow);
