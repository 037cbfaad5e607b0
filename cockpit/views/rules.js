/** What decides about packets: bans, then rules and lists, strongest first. */

import { address, badge, button } from "../cells.js";
import { addRule, ban, isAdded, removeRule, unban } from "../changes.js";
import { ask } from "../daemon.js";
import { card, empty, fill, h, table } from "../dom.js";
import { entry, filter } from "../filter.js";
import { exact, many, number, octets, rate, services, until, when } from "../words.js";

const MOST = 500;
let unfolded = false; // whether somebody looks at the guard

export default function rules({ within = "" }) {
  const bans = h("div"), rows = h("div");
  const form = filter("rules", entry("Only what overlaps", "within", within, "an address or prefix"));
  const adding = h("span"), banning = h("span");

  return {
    element: h("div", { class: "stack" }, card("Bans in force", bans, [banning]),
      card("Rules in force", h("div", {}, form, rows), [adding])),
    async refresh() {
      fill(banning, button("Ban an address", () => ban(), { changes: true, kind: "primary" }));
      fill(adding, button("Add a rule", () => addRule(within), { changes: true, kind: "primary" }));
      const { bans: banned } = await ask("Bans");
      const { rules: found } = await ask("Rules", within ? { within } : {});
      fill(bans, banned.length ? banTable(banned) : empty("Nobody is banned.",
        "Ban an address here, or wherever it is shown."));
      fill(rows, found.length ? ruleTable(found)
        : empty(within ? "No rule overlaps it." : "There are no rules.", "Add one here, or a file to cidr.d."));
    },
  };
}

function banTable(bans) {
  return table([
    ["Address", row => address(row.cidr)],
    ["Services", row => services(row.ports)],
    ["Since", row => when(row.since)],
    ["Until", row => until(row.expires)],
    ["By", row => row.owner && row.owner !== row.by ? `${row.by} for ${row.owner}` : row.by],
    ["Times", row => row.count, "number"],
    ["Reason", row => row.reason, "wide"],
    ["", row => h("span", { class: "tools" },
      button("Lift", () => unban(row), { changes: true, key: `lift ${row.cidr} ${row.owner}` })), "tools"],
  ], bans);
}

function ruleTable(rules) {
  const guard = rules.filter(row => row.kind === "guard"), others = rules.filter(row => row.kind !== "guard");
  return h("div", {}, guard.length > 0 && guardTable(guard),
    others.length ? table(RULE, others.slice(0, MOST))
      : empty("There are no rules of your own.", "Add one here, or a file to cidr.d."),
    others.length > MOST && h("p", { class: "soft" }, `The strongest ${MOST}; name a prefix above to see others.`));
}

function guardTable(guard) {
  const title = `The guard lets ${many(guard.length, "address")} pass before any rule: those of this host, and those that it depends on.`;
  return h("details", { open: unfolded, ontoggle: event => { unfolded = event.target.open; } },
    h("summary", { "data-key": "guard" }, title),
    table([
      ["Address", row => address(row.cidr)],
      ["What it is", row => row.label],
      ["Packets", row => number(row.packets ?? 0), "number"],
    ], guard));
}

const RULE = [
  ["Prefix", row => row.kind === "list" ? row.cidr.split("/").pop()
    : h("span", {}, address(row.cidr), row.prefixes > 1 && ` +${exact(row.prefixes - 1)}`)],
  ["Kind", row => row.kind],
  ["Action", row => h("span", {}, badge(row.action), row.rate_per_s && ` ${rate(row.rate_per_s)}`)],
  ["Direction", row => row.direction],
  ["Services", row => services(row.ports)],
  ["Label", row => row.label],
  ["Packets", row => number(row.packets ?? 0), "number"],
  ["Bytes", row => octets(row.bytes ?? 0), "number"],
  ["Until", row => row.expires ? when(row.expires) : ""],
  ["Where", row => row.source === "runtime" ? "until restart" : row.source, "where wide"],
  ["", row => row.kind === "rule" && h("span", { class: "tools" }, removal(row)), "tools"],
];

function removal(row) {
  const key = `remove ${row.cidr} ${row.direction} ${row.ports}`;
  return isAdded(row) ? button("Remove", () => removeRule(row), { changes: true, key })
    : h("span", { class: "soft" }, "edit its file");
}
