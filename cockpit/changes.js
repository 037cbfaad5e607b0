/** What an administrator changes here: bans and rules. Each is a dialog; its result is shown at the top. */

import { button } from "./cells.js";
import { ask } from "./daemon.js";
import { dialog, sentence } from "./dialog.js";
import { fill, h } from "./dom.js";
import { host, span, until } from "./words.js";

const HOUR = 3600, DAY = 24 * HOUR;
const LASTS = [["600", "10 minutes"], [HOUR, "1 hour"], [DAY, "1 day"], [7 * DAY, "7 days"], [30 * DAY, "30 days"]];
const SERVICES = { name: "ports", label: "Services",
  hint: "Such as tcp/443, udp/8000-8100 or ssh; empty: all." };
const services = text => text ? { ports: text.split(/[\s,]+/) } : {};
const NOBODYS = "unknown"; // whose a ban is that is older than owners
const FORCED = "Do it anyway";

const TYPED = / \(--save .*?\)|: keep it with trafficctl .*/; // in notes: here are buttons for it

let refresh = () => {};

/** `then` is called after each change. */
export const onChange = then => { refresh = then; };

/** Says what was done, with the daemon's notes, or why it was not, until it is dismissed or replaced. */
function tell(text, notes = [], kind = "good") {
  const box = document.getElementById("result");
  box.className = kind;
  const close = h("button",
    { type: "button", class: "plain", "aria-label": "Dismiss", onclick: () => { box.hidden = true; } }, "×");
  box.replaceChildren(h("div", {}, h("strong", {}, text), notes.map(note => h("p", {}, sentence(note.replace(TYPED, ""))))), close);
  box.hidden = false;
}

async function change(about, act) {
  const said = await dialog(about, act);
  if (said) {
    tell(...said);
    refresh();
  }
}

/** What needs no more words than its button has. */
async function once(act) {
  try {
    tell(...await act());
  } catch (problem) {
    tell(sentence(problem.message), problem.hint ? [problem.hint] : [], "bad");
  }
  refresh();
}

const confirm = () => once(async () => {
  const { confirmed, notes } = await ask("Confirm");
  return [`It stays in force: ${confirmed}.`, notes];
});

const rollBack = () => once(async () => {
  const { rolled_back: what, notes } = await ask("Rollback");
  return [`It was undone: ${what}.`, notes];
});

/** Shows what the kernel takes back unless somebody keeps it, as `Top` says; null: nothing is on probation. */
export function showProbation(probation) {
  const box = document.getElementById("probation");
  box.hidden = !probation;
  if (probation)
    fill(box, h("p", {}, h("strong", {}, `On probation: ${probation.what}`), `, by ${probation.user}. `
      + `It is undone in ${span(probation.left_s)} unless somebody confirms it.`),
    h("span", { class: "tools" }, button("Keep it", confirm, { changes: true, kind: "primary" }),
      button("Take it back", rollBack, { changes: true })));
}

/** Bans a source, for a while or forever. */
export const ban = (cidr = "", reason = "") => change({
  title: cidr ? `Ban ${host(cidr)}` : "Ban an address",
  text: "Packets from it are dropped at once.",
  fields: [
    { name: "cidr", label: "Address or prefix", value: host(cidr), required: true },
    { name: "lasts", label: "For how long", kind: "select", value: HOUR,
      options: [...LASTS, ["", "The configured time"], ["forever", "Until it is lifted"]] },
    SERVICES,
    { name: "reason", label: "Reason", value: reason, hint: "It is shown in the audit." },
  ],
  done: "Ban",
  danger: true,
  forced: FORCED,
}, async ({ cidr, lasts, ports, reason }, force) => {
  const time = lasts === "forever" ? { forever: true } : lasts ? { ttl_s: +lasts } : {};
  const made = await ask("Ban", { cidr, reason, force, ...time, ...services(ports) });
  const end = made.ban.expires ? until(made.ban.expires) : "it is lifted";
  return [`${host(made.ban.cidr)} is banned until ${end}.`, made.notes];
});

/** Lifts one owner's ban. */
export const unban = row => change({
  title: `Lift the ban of ${host(row.cidr)}`,
  text: `Banned by ${row.by}${row.reason ? `: ${row.reason}` : ""}.`,
  done: "Lift the ban",
}, async () => {
  const owner = row.owner === NOBODYS ? {} : { owner: row.owner };
  const { held, notes } = await ask("Unban", { cidr: row.cidr, ...owner });
  const others = held.length ? [`it is still banned by ${held.map(each => each.owner).join(", ")}`] : [];
  return [`The ban of ${host(row.cidr)} is lifted.`, [...others, ...notes]];
});

/** Adds a rule. */
export const addRule = (cidr = "", action = "drop") => change({
  title: "Add a rule",
  text: "It is in force at once. Only the guard, the allowlist, bans and longer prefixes come before it.",
  fields: [
    { name: "cidr", label: "Address or prefix", value: host(cidr), required: true,
      hint: "0.0.0.0/0 and ::/0 are everybody." },
    { name: "action", label: "Action", kind: "select", value: action,
      options: [["drop", "Drop"], ["allow", "Allow"], ["monitor", "Monitor"], ["limit", "Limit the rate"]] },
    { name: "limit", type: "number", label: "Packets a second", hint: "For a limit." },
    { name: "direction", label: "Direction", kind: "select", value: "ingress",
      options: [["ingress", "Packets from it"], ["egress", "Packets to it"], ["both", "Both"]] },
    SERVICES,
    { name: "label", label: "Label" },
    { name: "lasts", label: "For how long", kind: "select", value: "",
      options: [["", "Until the next restart"], ...LASTS, ["save", "Permanently (saved)"]] },
    { name: "trial", label: "On probation: undone after a minute unless confirmed", kind: "check" },
  ],
  done: "Add",
  forced: FORCED,
}, async ({ cidr, action, limit, direction, ports, label, lasts, trial }, force) => {
  const given = {
    cidr, action, direction, label, force,
    ...(trial && { confirm_within_s: 60 }),
    ...(limit && { rate_per_s: +limit }),
    ...services(ports),
    ...(lasts === "save" ? { save: true } : lasts && { ttl_s: +lasts }),
  };
  const { rule, notes } = await ask("AddCidr", given);
  return [`In force: ${rule.action} ${host(rule.cidr)}${rule.ports ? `, ${rule.ports.join(", ")}` : ""}.`, notes];
});

/** Takes a rule out of force that was added here or by trafficctl. */
export const removeRule = row => change({
  title: `Remove the rule on ${host(row.cidr)}`,
  text: `It is: ${row.action} ${row.direction}${row.ports ? `, ${row.ports.join(", ")}` : ""}${row.label ? `, “${row.label}”` : ""}.`,
  done: "Remove",
  danger: true,
}, async () => {
  const { notes } = await ask("RemoveCidr",
    { cidr: row.cidr, direction: row.direction, save: isSaved(row), ports: row.ports || [] });
  return [`The rule on ${host(row.cidr)} was removed.`, notes];
});

/** A rule that a client added: for this run of the daemon, or saved. Others belong to a file that somebody edits. */
export const isAdded = row => row.kind === "rule" && (row.source === "runtime" || isSaved(row));
const isSaved = row => /\/rules\.toml:\d+$/.test(row.source) && !row.source.includes("/cidr.d/");
