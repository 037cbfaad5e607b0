/** Who changed what, latest first. */

import { address, link } from "../cells.js";
import { ask } from "../daemon.js";
import { card, empty, fill, h, table } from "../dom.js";
import { filter, last } from "../filter.js";
import { when } from "../words.js";

export default function audit({ since = "604800" }) {
  const rows = h("div");
  const form = filter("audit", last(since));

  return {
    element: h("div", { class: "stack" }, form, card("Changes", rows)),
    async refresh() {
      const { entries } = await ask("Audit", { since: Date.now() / 1000 - since, limit: 500 });
      fill(rows, entries.length ? auditTable(entries)
        : empty("No changes.", "Changes of bans and rules are recorded here. ",
          h("a", { href: link("rules"), "data-key": "rules" }, "See what is in force"), "."));
    },
  };
}

/** The user that asked, and who had logged in where that is somebody else or, of root, unknown. */
function who({ user, login }) {
  if (!login)
    return user === "root" ? "root (login unknown)" : user;
  return login === user ? user : `${login} as ${user}`;
}

function auditTable(entries) {
  return table([
    ["When", row => when(row.at)],
    ["Who", who, "address"],
    ["Change", row => row.change, "address"],
    ["What", row => address(row.subject)],
    ["Before", row => row.before, "wide"],
    ["After", row => row.after, "wide"],
  ], entries);
}
