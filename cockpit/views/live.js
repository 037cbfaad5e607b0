/** What moves now: the busiest hosts and flows, of all or of those that match. */

import { address, badge, button, end, go, link } from "../cells.js";
import { card, empty, fill, h, table } from "../dom.js";
import { choice, entry, filter } from "../filter.js";
import { banButton, learnGuard, role } from "../guard.js";
import { many, octetRate, octets, rate } from "../words.js";

const MOST = 20; // flows, of which each costs the daemon a tenth of a millisecond
const WINDOWS = [[2, "2 seconds"], [10, "10 seconds"], [40, "40 seconds"]];
const SORTS = [["bytes", "bytes a second"], ["packets", "packets a second"], ["sent", "sent"],
  ["received", "received"], ["total", "total"]];

export default function live({ match = "", sort = "bytes", window = "10" }) {
  const hosts = h("div"), flows = h("div"), units = h("div"), sums = h("p", { class: "soft" });
  const form = filter("live", entry("Only", "match", match, "an address, prefix, port or protocol"),
    choice("Sort by", "sort", SORTS, sort), choice("Average over", "window", WINDOWS, window));
  const at = WINDOWS.findIndex(([seconds]) => String(seconds) === window);

  return {
    element: h("div", { class: "stack" }, form, sums, card("Hosts", hosts), units, card("Flows", flows)),
    top: { limit: MOST, match, sort, window_s: +window },
    moment(top) {
      const now = top.rates[at];
      fill(sums, `${octetRate(now.received_bytes_per_s)} received and ${octetRate(now.sent_bytes_per_s)} sent. `
        + `${many(top.moving, "flow")} moved in the last 40 seconds${top.moving > MOST ? "; the busiest are below" : ""}.`);
      fill(hosts, top.hosts.length ? hostTable(top.hosts, at) : nothing(match));
      fill(units, top.units?.length && card("Services of this host", unitTable(top.units, at)));
      fill(flows, top.flows.length ? flowTable(top.flows, at) : nothing(match));
    },
    every: 30,
    refresh: learnGuard,
  };
}

const nothing = match => match
  ? empty(`No traffic matches “${match}”.`,
    h("a", { href: link("live"), "data-key": "all" }, "Show everything"))
  : empty("Nothing moves.", "Traffic appears within seconds. See ",
    h("a", { href: link("overview"), "data-key": "which" }, "what is watched"), ".");

const received = at => ["Received", row => octetRate(row.rates[at].received_bytes_per_s), "number"];
const sent = at => ["Sent", row => octetRate(row.rates[at].sent_bytes_per_s), "number"];
const packets = at => ["Packets",
  row => rate(row.rates[at].received_packets_per_s + row.rates[at].sent_packets_per_s), "number"];

function hostTable(hosts, at) {
  return table([
    ["Host", row => h("span", {}, address(row.address),
      h("span", { class: "soft" }, " ",
        role(row.address) ?? [row.country, row.as_name].filter(each => each).join(", "))), "wide"],
    received(at), sent(at), packets(at),
    ["Flows", row => row.flows, "number"],
    ["", row => h("span", { class: "tools" },
      button("Flows", () => go("live", { match: row.address }), { key: `only ${row.address}` }),
      banButton(row.address)), "tools"],
  ], hosts.slice(0, 10));
}

function unitTable(units, at) {
  return table([
    ["Service", row => row.unit, "wide"],
    received(at), sent(at),
    ["Flows", row => row.flows, "number"],
    ["", row => button("Flows", () => go("live", { match: row.unit }), { key: `only ${row.unit}` }), "tools"],
  ], units.slice(0, 10));
}

function flowTable(flows, at) {
  return table([
    ["From", row => end(row, "src")],
    ["To", row => end(row, "dst")],
    sent(at), received(at), packets(at),
    ["Total", row => octets(row.bytes), "number"],
    ["Protocol", row => row.protocol],
    ["Action", row => badge(row.action)],
    ["Interface", row => row.interface],
  ], flows);
}
