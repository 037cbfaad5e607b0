/** The host at a glance: rates as a picture, what is wrong, open threats, and the account of every packet. */

import { badge, link } from "../cells.js";
import { ask } from "../daemon.js";
import { card, empty, facts, fill, h, table } from "../dom.js";
import { banButton, learnGuard } from "../guard.js";
import { exact, many, number, octetRate, octets, phrase, rate, span, when } from "../words.js";

const MOST = 10, MOST_MISTAKES = 5;
const SEVERITIES = ["low", "medium", "high", "critical"];

export default function overview(_, { samples }) {
  const tiles = h("div", { class: "tiles" }), chart = h("div"), interfaces = h("div"), threats = h("div");
  const wrong = h("div"), account = h("div"), about = h("div");
  let status = null;

  return {
    element: h("div", { class: "stack" }, wrong, tiles, h("div", { class: "columns" },
      h("div", { class: "stack" }, card("Rates", chart), card("Open threats", threats), card("Interfaces", interfaces)),
      h("div", { class: "stack" }, card("Every packet, accounted for", account), card("The daemon", about)))),
    every: 3,
    moment(top) {
      fill(chart, samples.draw());
      fill(interfaces, interfaceTable(top.interfaces));
      fill(tiles, tileRow(samples.latest, top, status));
    },
    async refresh() {
      status = await ask("Status");
      await learnGuard();
      const { threats: open } = await ask("Threats", { open_only: true, limit: 50 });
      fill(threats, threatList(open, status));
      fill(wrong, troubles(status));
      fill(account, sum(status.accounting));
      fill(about, daemonFacts(status));
    },
  };
}

const tile = (value, name, href, kind) =>
  h("a", { class: "tile", href, "data-key": `tile ${name}` }, h("b", { class: kind }, value), h("span", {}, name));

function tileRow(now, top, status) {
  return [
    tile(octetRate(now.received), "received", link("live")),
    tile(octetRate(now.sent), "sent", link("live")),
    tile(rate(now.drops), "packets dropped", link("history", { action: "drop" }), now.drops && "bad"),
    tile(number(top.flow_count), "live flows", link("live")),
    status && tile(exact(status.threats.open), "open threats", link("threats"), status.threats.open && "bad"),
    status && tile(exact(status.rules.bans ?? 0), "bans", link("rules")),
  ];
}

/** What an administrator should know, worst first: the daemon's own sentences, each with its next step. */
function troubles({ warnings, unwatched, config }) {
  const missing = new Set(unwatched || []), mistakes = config.mistakes || [];
  const found = [
    ...[...missing].map(text => ["bad", `Not watched: ${text}`]),
    ...mistakes.slice(0, MOST_MISTAKES).map(each => ["bad", `${each.where}: ${each.what}`]),
    ...(warnings || []).filter(text => !missing.has(text)).map(text => ["warning", text]),
  ];
  if (!found.length)
    return null;
  const more = mistakes.length - MOST_MISTAKES;
  const note = config.error && h("p", {}, "The files on disk are not in force; the previous rules are. ",
    more > 0 && `There are ${many(more, "more mistake")}. `, h("code", {}, "trafficctl check"),
      " shows each with its line.");
  return card("Needs attention",
    h("div", {}, h("ul", { class: "troubles" }, found.map(([kind, text]) => h("li", { class: kind }, text))), note));
}

function threatList(threats, status) {
  if (!threats.length) {
    return empty("None.", "Scans, floods and the like appear here. ",
      h("a", { href: link("threats"), "data-key": "past" }, "Past threats"), ...(status.threats.response === "off"
        ? [". No source is banned automatically; switch that on with ", h("code", {}, "[response]"), " in the settings."]
        : []));
  }
  const worstFirst = [...threats].sort((one, other) =>
    SEVERITIES.indexOf(other.severity) - SEVERITIES.indexOf(one.severity));
  return h("ul", { class: "threats" }, worstFirst.slice(0, MOST).map(threat => h("li", {},
    badge(threat.severity), " ",
    h("a", { href: link("threats", { id: threat.id }), "data-key": threat.id }, threat.summary),
    banButton(threat.src_ip, threat.summary, threat.id))));
}

const MEANING = {
  in_flows: "in flows", unattributed: "of flows that were lost before they were read", not_ip: "not IP (ARP and the like)",
  malformed: "malformed", pending: "in the kernel, not yet read",
};

/** seen = the sum of its parts, to the packet and the byte. */
function sum(account) {
  const parts = Object.entries(MEANING).filter(([part]) => account[part])
    .map(([part, name]) => ({ ...account[part], name }));
  const total = unit => parts.reduce((all, part) => all + part[unit], 0);
  const holds = total("packets") === account.seen.packets && total("bytes") === account.seen.bytes;
  const lines = parts.map((part, at) => ({ ...part, sign: at ? "+" : "" }));
  return h("div", { class: "account" },
    table([
      ["", row => row.sign],
      ["What", row => row.name],
      ["Packets", row => exact(row.packets), "number"],
      ["Bytes", row => exact(row.bytes), "number"],
    ], [...lines, { sign: "=", name: "seen", ...account.seen }], "sum"),
    h("p", { class: holds ? "good" : "bad" }, holds
      ? "✓ It adds up, to the packet and the byte."
      : "The totals do not agree at this moment. If they still differ in a minute, please report it."),
    account.dropped && h("p", {},
      `Dropped of these: ${many(account.dropped.packets, "packet")}, ${octets(account.dropped.bytes)}.`));
}

function interfaceTable(interfaces) {
  if (!interfaces.length)
    return empty("No interface is watched.", "Name one in the settings: ", h("code", {}, "interfaces = [\"eth0\"]"));
  return table([
    ["Name", row => row.name],
    ["How", row => row.mode],
    ["Received", row => octetRate(row.rates?.[0].received_bytes_per_s ?? 0), "number"],
    ["Sent", row => octetRate(row.rates?.[0].sent_bytes_per_s ?? 0), "number"],
    ["Packets", row => number(row.packets), "number"],
    ["Dropped", row => number(row.dropped_packets), "number"],
  ], interfaces);
}

const sentOf = ({ sent, error }, what) => `${exact(sent)} ${what} sent${error ? `: ${error}` : ""}`;

function daemonFacts({ version, started_at, config, loader, loader_reason, rules, store, logs, exports, memory_bytes,
  threats }) {
  const now = Date.now() / 1000;
  const lost = store.lost_rows ? `, ${exact(store.lost_rows)} lost` : "";
  return facts([
    ["Version", `trafficmond ${version}, up ${span(now - started_at)}, ${loader}${loader_reason ? ` (${loader_reason})` : ""}`],
    ["Rules", [many(rules.count, "rule"), rules.lists && many(rules.lists, "list"),
      rules.prefixes && many(rules.prefixes, "prefix"),
      rules.default && `else ${rules.default}`].filter(each => each).join(", ")],
    ["Settings", `${config.path ? `${config.path}, ` : ""}in force since ${when(config.loaded_at)}`],
    ["Response", threats.response === "off" ? "off: threats are reported, not banned" : threats.response],
    ["History", `${many(store.rows, "row")}${store.size_bytes ? `, ${octets(store.size_bytes)}` : ""}${lost}`],
    ...logs.map(log => [`Log ${phrase(log.name)}`,
      `${exact(log.written)} written${log.lost ? `, ${exact(log.lost)} lost` : ""}`]),
    ...(exports || []).map(each =>
      ["Export", [`${each.to}, ${sentOf(each, "flows")}`, each.threats && sentOf(each.threats, "threats")]
        .filter(Boolean).join("; ")]),
    memory_bytes && ["Memory", octets(memory_bytes)],
  ]);
}
