/** What flows.db has: flows of the past, one by one or summed up. */

import { address, badge, end } from "../cells.js";
import { ask } from "../daemon.js";
import { card, empty, fill, h, table } from "../dom.js";
import { choice, entry, filter, last } from "../filter.js";
import { exact, number, octets, phrase, when } from "../words.js";

const SUMS = [["", "one by one"], ["host", "by host"], ["dst_port", "by port"], ["protocol", "by protocol"],
  ["action", "by action"], ["unit", "by service"], ["hour", "by hour"], ["day", "by day"]];
const ACTIONS = [["", "any"], ["drop", "dropped"], ["limit", "limited"], ["allow", "allowed"],
  ["monitor", "monitored"]];
const PAGE = 100;

export default function history({ since = "3600", host = "", ports = "", action = "", by = "" }, { again }) {
  const rows = h("div");
  let limit = PAGE;
  const form = filter("history", last(since),
    entry("Address", "host", host, "or prefix"), entry("Port", "ports", ports, "22,8000-8100"),
    choice("Action", "action", ACTIONS, action), choice("Rows", "by", SUMS, by));

  async function refresh() {
    const asked = { since: Date.now() / 1000 - since, limit, ...(host && { host }), ...(ports && { ports }),
      ...(action && { action }), ...(by && { group_by: [by] }) };
    const found = [];
    const { columns } = await ask("Flows", asked, page => found.push(...page.rows));
    const more = found.length >= limit
      && h("p", {}, h("button", { type: "button", "data-key": "more", onclick: event => {
      limit += PAGE;
      event.target.disabled = true;
      again();
    } }, "Show more"));
    fill(rows, found.length ? h("div", {}, by ? sumTable(columns, found) : flowTable(found), more)
      : empty("Nothing.", "Choose a longer time or fewer conditions. Flows that continue are in the live view."));
  }

  return { element: h("div", { class: "stack" }, form, card(by ? "Flows, summed up" : "Flows, latest first", rows)),
    every: 15, refresh };
}

/** Rows of flows.db. */
export function flowTable(rows) {
  return table([
    ["Last seen", row => when(row.last_seen)],
    ["Protocol", row => row.protocol],
    ["From", row => end(row, "src")],
    ["To", row => end(row, "dst")],
    ["Action", row => badge(row.action)],
    ["Rule", row => row.rule],
    ["Sent", row => octets(row.bytes), "number"],
    ["Received", row => octets(row.reply_bytes), "number"],
    ["Packets", row => number(row.packets + row.reply_packets), "number"],
    ["Interface", row => row.interface],
  ], rows);
}

const SHOW = {
  bytes: ["Sent", octets, "number"], reply_bytes: ["Received", octets, "number"], up_bytes: ["Up", octets, "number"],
  down_bytes: ["Down", octets, "number"], flows: ["Flows", exact, "number"], first_seen: ["First seen", when],
  last_seen: ["Last seen", when], host: ["Host", address], action: ["Action", badge], dst_port: ["Port", String],
  unit: ["Service", String, "wide"],
};

/** Of hosts what each sent and received; of all else what went up and came down. */
function sumTable(columns, rows) {
  const aside = columns.includes("host") ? /packets|^(up|down)_/ : /packets|^(reply_)?bytes/;
  return table(columns.filter(name => !aside.test(name)).map(name => {
    const [title, show, kind] = SHOW[name] ?? [phrase(name).replace(/^./, first => first.toUpperCase()), String];
    return [title, row => row[name] === null ? "none" : show(row[name]), kind];
  }), rows);
}
