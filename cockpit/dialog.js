/** A dialog that asks, does, and stays open with the daemon's words where it could not be done. */

import { h, select } from "./dom.js";

/** A field: {name, label, kind: "text", "select" or "check", type, value, options, hint, required}. */
function control(field) {
  if (field.kind === "select")
    return select(field.name, field.options, field.value);
  if (field.kind === "check")
    return h("input", { type: "checkbox", name: field.name, checked: field.value });
  return h("input", { name: field.name, value: field.value, required: field.required, autocomplete: "off",
    spellcheck: "false", type: field.type, min: field.type && 1 });
}

function labelled(field) {
  const hint = field.hint && h("small", {}, field.hint);
  return field.kind === "check"
    ? h("label", { class: "check" }, control(field), " ", field.label, hint)
    : h("label", {}, h("span", {}, field.label), control(field), hint);
}

/** What a form holds, by name. */
export function values(form) {
  const named = [...form.elements].filter(each => each.name);
  return Object.fromEntries(named.map(each =>
    [each.name, each.type === "checkbox" ? each.checked : each.value.trim()]));
}

/** Asks, then does `act(values, force)`, which resolves to what to say of it; so does this, or to null if it was
 * cancelled. What the daemon refuses for safety can be done all the same, by a button called `forced`. */
export function dialog({ title, text = "", fields = [], done, danger = false, forced = null }, act) {
  return new Promise(resolve => {
    let said = null;
    const trouble = h("div", { class: "trouble", role: "alert", hidden: true });
    const go = h("button", { class: danger ? "danger" : "primary" }, done);
    const anyway = h("button", { type: "button", class: "danger", hidden: true, onclick: () => perform(true) }, forced);
    const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel");
    const form = h("form", { method: "dialog" }, h("h2", {}, title), text && h("p", {}, text), fields.map(labelled),
      trouble, h("div", { class: "buttons" }, go, anyway, cancel));
    const box = h("dialog", {}, form);
    // Where the daemon names a field, its label.
    const labels = text => text.replace(/^(?:.*rule\[0\]\.)?(\w+): /, (all, name) => {
      const field = fields.find(each => each.name === name);
      return field ? `${field.label}: ` : all;
    });
    const busy = is => [go, anyway].forEach(each => { each.disabled = is; });

    async function perform(force) {
      busy(true);
      try {
        said = await act(values(form), force);
        box.close();
      } catch (problem) {
        const mistakes = (problem.mistakes || []).map(each => h("li", {}, `${each.where}: ${each.what}`));
        const refused = forced && problem.name === "Refused" && !values(form).ports; // services cannot be forced
        trouble.replaceChildren(h("strong", {}, sentence(labels(problem.message))),
          mistakes.length > 1 ? h("ul", {}, mistakes) : "",
          refused ? h("p", {}, "It may cut off this host, or somebody who is logged in.")
            : problem.hint && h("p", {}, sentence(problem.hint)));
        trouble.hidden = false;
        go.hidden = refused;
        anyway.hidden = !refused;
        box.scrollTop = box.scrollHeight; // on a phone it is below what can be seen
      } finally {
        busy(false);
      }
    }

    form.addEventListener("submit", event => {
      event.preventDefault();
      perform(false);
    });
    form.addEventListener("input", () => {
      go.hidden = false;
      anyway.hidden = true;
    });
    box.addEventListener("close", () => {
      box.remove();
      resolve(said);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** As the daemon's words stand in a message of their own. */
export const sentence = text => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
