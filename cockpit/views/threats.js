/** What the detectors found, latest first; one of them with its evidence, its flows, and what was done about it. */

import { address, badge, link } from "../cells.js";
import { ask } from "../daemon.js";
import { card, empty, facts, fill, h, table } from "../dom.js";
import { choice, entry, filter } from "../filter.js";
import { banButton, learnGuard } from "../guard.js";
import { exact, phrase, when } from "../words.js";
import { flowTable } from "./history.js";

const SHOWN = [["open", "open"], ["all", "open and past"]];
const LEAST = [["low", "any"], ["medium", "medium and worse"], ["high", "high and worse"], ["critical", "critical"]];

export default options => options.id ? one(options.id) : list(options);

function list({ show = "all", least = "low", host = "" }) {
  const found = h("div");
  const form = filter("threats", choice("State", "show", SHOWN, show),
    choice("Severity", "least", LEAST, least), entry("Address", "host", host, "an address or prefix"));

  return {
    element: h("div", { class: "stack" }, form, card("Threats", found)),
    async refresh() {
      await learnGuard();
      const { threats } = await ask("Threats",
        { open_only: show === "open", min_severity: least, limit: 200, ...(host && { host }) });
      fill(found, threats.length ? threatTable(threats) : empty("None.",
        "Scans, floods, guessed passwords and the like appear here as they are found."));
    },
  };
}

export function threatTable(threats) {
  return table([
    ["Last seen", row => when(row.last_seen)],
    ["Severity", row => badge(row.severity)],
    ["What", row => h("a", { href: link("threats", { id: row.id }), "data-key": row.id }, row.summary), "wide"],
    ["From", row => address(row.src_ip)],
    ["To", row => address(row.dst_ip)],
    ["Times", row => exact(row.count), "number"],
    ["State", row => row.state === "closed" ? "over" : "open"],
    ["", row => h("span", { class: "tools" }, banButton(row.src_ip, row.summary, row.id)), "tools"],
  ], threats);
}

function one(id) {
  const body = h("div", { class: "stack" });
  return {
    element: h("div", { class: "stack" }, h("p", {}, h("a", { href: link("threats") }, "← All threats")), body),
    every: 10,
    async refresh() {
      await learnGuard();
      const { threat, flows, response } = await ask("Threat", { id });
      fill(body, card(threat.summary, h("div", {},
        facts([
          ["Severity", badge(threat.severity)],
          ["Detector", phrase(threat.detector)],
          ["From", address(threat.src_ip)],
          threat.dst_ip && ["To", address(threat.dst_ip)],
          ["Seen", `${when(threat.first_seen)} to ${when(threat.last_seen)}, ${exact(threat.count)} times`],
          ["State", threat.state === "closed" ? "over" : "open"],
          ["Technique", `MITRE ATT&CK ${threat.technique}`],
          ...Object.entries(threat.evidence).map(([name, value]) => [phrase(name), shown(value)]),
        ]),
        response.map(line => h("p", { class: "response" }, line))),
      [banButton(threat.src_ip, threat.summary)]),
      card("Its flows", flows.length ? flowTable(flows)
        : empty("None is stored.", "They may be older than what the history keeps.")));
    },
  };
}

const shown = value => Array.isArray(value)
  ? value.slice(0, 50).join(", ") + (value.length > 50 ? ` and ${value.length - 50} more` : "")
  : typeof value === "number" ? exact(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
