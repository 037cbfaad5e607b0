/** What happens to packets of one address, why, what it did, and what can be done about it. */

import { address, badge, button, link } from "../cells.js";
import { addRule } from "../changes.js";
import { ask } from "../daemon.js";
import { card, empty, facts, fill, h, table } from "../dom.js";
import { choice, entry, filter } from "../filter.js";
import { banButton, learnGuard } from "../guard.js";
import { exact, many, octets, services, until, when } from "../words.js";
import { flowTable } from "./history.js";
import { threatTable } from "./threats.js";

const WAYS = [["ingress", "packets from it"], ["egress", "packets to it"]];
const BECAUSE = { default: "the default: nothing else matches", guard: "the guard", allowlist: "the allowlist" };

export default function explain({ address: asked = "", direction = "ingress", service = "" }) {
  const body = h("div", { class: "stack" });
  const form = filter("explain", h("input", { type: "hidden", name: "address", value: asked }),
    choice("Direction", "direction", WAYS, direction),
    entry("Service", "service", service, "any, or tcp/443"));

  return {
    element: h("div", { class: "stack" }, form, body),
    every: 10,
    async refresh() {
      if (!asked)
        return fill(body, empty("Which address?", "Write one at the top, or click an address on any page."));
      await learnGuard();
      const found = await ask("Explain", { address: asked, direction, ...(service && { service }) });
      fill(body, verdict(found), card("What matches, in order of precedence", decisions(found.decisions)),
        found.threats.length > 0 && card("Threats", threatTable(found.threats)),
        card("Flows", found.flows.length ? flowTable(found.flows)
          : empty("None is stored.", "It has not been seen since the history begins.")));
    },
  };
}

function verdict(found) {
  const way = found.direction === "ingress" ? "Packets from" : "Packets to";
  const seen = found.last_seen && `${when(found.first_seen)} to ${when(found.last_seen)}`;
  const tools = [
    banButton(found.address),
    button("Allow", () => addRule(found.address, "allow"), { changes: true }),
    button("Add a rule", () => addRule(found.address), { changes: true }),
  ];
  return card(h("span", {}, `${way} ${found.address}${found.service ? ` for ${found.service}` : ""}: `,
    badge(found.action)), facts([
    ["Because of", BECAUSE[found.reason] ?? `a ${found.reason}`],
    ["It sent", found.packets
      ? `${many(found.packets, "packet")}, ${octets(found.bytes)}; ${exact(found.dropped_packets)} of them were dropped`
      : "nothing that is stored"],
    seen && ["Seen", seen],
    ["See also", h("span", {},
      h("a", { href: link("live", { match: found.address }), "data-key": "live" }, "what it does now"), ", ",
      h("a", { href: link("history", { host: found.address, since: 86400 }), "data-key": "history" }, "its last day"))],
  ]), tools);
}

function decisions(rows) {
  return table([
    ["Decides", row => row.wins ? "yes" : ""],
    ["Kind", row => row.kind],
    ["Prefix", row => address(row.prefix)],
    ["Action", row => badge(row.action)],
    ["Services", row => services(row.ports)],
    ["Label", row => row.label],
    ["Until", row => row.expires ? until(row.expires) : ""],
    ["Where", row => row.source, "where wide"],
    ["Why not", row => row.wins ? "" : row.why],
  ], rows);
}
