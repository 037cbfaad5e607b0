/** How much went out and came in, by month, day or hour; the sums outlive the flows. */

import { ask } from "../daemon.js";
import { card, empty, fill, h, table } from "../dom.js";
import { choice, filter } from "../filter.js";
import { exact, number, octets } from "../words.js";

const PERIODS = ["month", "day", "hour"].map(period => [period, period]);
const DAYS = { month: 731, day: 62, hour: 3 };
const KINDS = ["total", "interface", "unit", "country", "asn", "protocol", "port"].map(kind => [kind, kind]);

export default function usage({ period = "day", kind = "total" }) {
  const rows = h("div");
  const form = filter("usage", choice("Period", "period", PERIODS, period),
    choice("By", "kind", KINDS, kind));
  return {
    element: h("div", { class: "stack" }, form, card("Usage", rows)),
    every: 30,
    async refresh() {
      const since = Date.now() / 1000 - DAYS[period] * 86400;
      const { rows: found } = await ask("Usage", { period, kind, since, limit: 500 });
      fill(rows, found.length ? usageTable(found) : empty("Nothing yet.", "Totals are made when flows are stored."));
    },
  };
}

const total = row => row.up_bytes + row.down_bytes;

function usageTable(rows) {
  const max = Math.max(...rows.map(total));
  return table([
    ["When", row => row.period],
    ["What", row => [row.key || "none", row.as_name].filter(Boolean).join(" ")],
    ["Up", row => octets(row.up_bytes), "number"],
    ["Down", row => octets(row.down_bytes), "number"],
    ["Total", row => octets(total(row)), "number"],
    ["", row => h("progress", { max, value: total(row), "aria-hidden": "true" })],
    ["Packets", row => number(row.packets), "number"],
    ["Flows", row => exact(row.flows), "number"],
  ], rows);
}
