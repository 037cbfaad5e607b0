/** What flows.db has: flows of the past, one by one or summed up. */

import { address, badge, end } from "../cells.js";
import { ask } from "../daemon.js";
import { card, empty, fill, h, table } from "../dom.js";
import { choice, entry, filter } from "../filter.js";
import { clock, exact, number, octets, phrase, when } from "../words.js";

const SINCE = [[600, "10 minutes"], [3600, "hour"], [86400, "day"], [604800, "7 days"], [2592000, "30 days"]];
const SUMS = [["", "one by one"], ["host", "by host"], ["dst_port", "by port"], ["protocol", "by protocol"],
  ["action", "by action"],
  ["hour", "by hour"], ["day", "by day"]];
const ACTIONS = [["", "any action"], ["drop", "dropped"], ["limit", "limited"], ["allow", "allowed"],
  ["monitor", "monitored"]];
const PAGE = 100;

export default function history({ since = "3600", host = "", ports = "", action = "", by = "" }, { again }) {
  const rows = h("div");
  let limit = PAGE;
  const form = filter("history", choice("The last", "since", "Since", SINCE, since),
    entry("with", "host", host, "address or prefix"), entry("port", "ports", ports, "22,8000-8100"),
    choice("", "action", "Action", ACTIONS, action), choice("", "by", "Summed up", SUMS, by));

  async function refresh() {
    const given = Object.entries({ host, ports, action }).filter(([, value]) => value);
    const asked = { ...Object.fromEntries(given), since: Date.now() / 1000 - since, limit,
      ...(by && { group_by: [by] }) };
    const found = [];
    const { columns } = await ask("Flows", asked, page => found.push(...page.rows));
    const more = found.length >= limit
      && h("p", {}, h("button", { type: "button", "data-key": "more", onclick: event => {
      limit += PAGE;
      event.target.disabled = true;
      again();
    } }, "Show more"));
    fill(rows, found.length ? h("div", {}, by ? sumTable(columns, found) : flowTable(found), more)
      : empty("Nothing.", "Look further back, or ask for less. What is under way is in the live view."));
  }

  return { element: h("div", { class: "stack" }, form, card(by ? "Flows, summed up" : "Flows, latest first", rows)),
    every: 15, refresh };
}

/** Rows of flows.db. */
export function flowTable(rows) {
  return table([
    ["Last seen", row => when(row.last_seen)],
    ["From", row => end(row, "src")],
    ["To", row => end(row, "dst")],
    ["Protocol", row => row.protocol],
    ["Action", row => badge(row.action)],
    ["Rule", row => row.rule],
    ["Sent", row => octets(row.bytes), "number"],
    ["Received", row => octets(row.reply_bytes), "number"],
    ["Packets", row => number(row.packets + row.reply_packets), "number"],
    ["Interface", row => row.interface],
  ], rows);
}

const SHOW = {
  bytes: ["Sent", octets, "number"], reply_bytes: ["Received", octets, "number"],
    packets: ["Packets sent", number, "number"],
  reply_packets: ["Packets received", number, "number"], flows: ["Flows", exact, "number"],
    first_seen: ["First seen", clock],
  last_seen: ["Last seen", when], host: ["Host", address], src_ip: ["From", address], dst_ip: ["To", address],
  action: ["Action", badge], dst_port: ["Port", String],
};

function sumTable(columns, rows) {
  return table(columns.map(name => {
    const [title, show, kind] = SHOW[name] ?? [phrase(name), String];
    return [title, row => row[name] === null ? "" : show(row[name]), kind];
  }), rows);
}
