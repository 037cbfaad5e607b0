/** The last minutes as a picture. Shapes stretch with the page; texts stand outside of them. */

import { h, svg } from "./dom.js";
import { octetRate, rate } from "./words.js";

export const MINUTES = 5;
const WIDTH = 1000, HEIGHT = 200;
const GAP_S = 15; // longer without a sample, nobody looked

/** Rates over time, filled by the `Top` of each tick. */
export class Samples {
  #all = [];

  /** Adds the moment that `top` tells of; the first also tells of the 40 seconds before it. */
  take(top) {
    const last = this.#all.at(-1);
    if (last && top.at <= last.at)
      return;
    const dropped = sum(top.interfaces, each => each.dropped_packets);
    const [now, ten, forty] = [0, 1, 2].map(window => ({
      received: sum(top.interfaces, each => each.rates?.[window].received_bytes_per_s ?? 0),
      sent: sum(top.interfaces, each => each.rates?.[window].sent_bytes_per_s ?? 0),
    }));
    if (!last)
      this.#all.push({ at: top.at - 40, ...before(forty, 40, ten, 10) },
        { at: top.at - 10, ...before(ten, 10, now, 2) });
    const span = last ? top.at - last.at : 0;
    const drops = last && span < GAP_S ? Math.max(0, dropped - last.dropped) / span : 0;
    this.#all.push({ at: top.at, ...now, dropped, drops });
    this.#all = this.#all.filter(each => each.at > top.at - MINUTES * 60);
  }

  get latest() {
    return this.#all.at(-1);
  }

  /** The picture, with its scale and its legend. */
  draw() {
    const end = this.latest?.at ?? 0;
    const highest = nice(Math.max(...this.#all.flatMap(each => [each.received, each.sent]), 1));
    const x = each => WIDTH * (1 - (end - each.at) / (MINUTES * 60));
    const y = value => HEIGHT * (1 - value / highest);
    const runs = this.#all.reduce((all, each) => {
      const run = all.at(-1);
      if (run && each.at - run.at(-1).at < GAP_S + 30 * (each.dropped === undefined || run.length < 3))
        run.push(each);
      else
        all.push([each]);
      return all;
    }, []);
    const line = (run, value) => run.map(each => `${x(each).toFixed(1)},${y(each[value]).toFixed(1)}`).join(" ");
    const shapes = runs.flatMap(run => [
      svg("polygon", {
        points: `${x(run[0])},${HEIGHT} ${line(run, "received")} ${x(run.at(-1))},${HEIGHT}` }),
      svg("polyline", { points: line(run, "received") }),
      svg("polyline", { class: "sent", points: line(run, "sent") }),
    ]);
    const drops = this.#all.filter(each => each.drops).map(each =>
      svg("rect", { x: x(each) - 5, y: HEIGHT - 8, width: 6, height: 8 }));
    const grid = [0, 0.5, 1].map(part => svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part }));
    const now = this.latest ?? { received: 0, sent: 0, drops: 0 };
    const label = `Now ${octetRate(now.received)} received, ${octetRate(now.sent)} sent, ${rate(now.drops)} packets dropped.`;
    const picture = svg("svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
      grid, shapes, drops);
    return h("div", { class: "chart" },
      h("p", { class: "legend" }, key("received", "received"), key("sent", "sent"), key("drops", "packets dropped")),
      h("div", { class: "scale" }, h("span", {}, octetRate(highest)), h("span", {}, octetRate(highest / 2)),
        h("span", {}, "0")),
      h("div", { class: "plot" }, picture),
      h("div", { class: "times" }, h("span", {}, `${MINUTES} minutes ago`), h("span", {}, "now")));
  }
}

const key = (kind, text) => h("span", {}, h("i", { class: kind }), text);
const sum = (rows, of) => rows.reduce((all, row) => all + of(row), 0);

/** What was before the shorter of two averages, which is part of the longer. */
function before(long, longS, short, shortS) {
  const part = name => Math.max(0, (long[name] * longS - short[name] * shortS) / (longS - shortS));
  return { received: part("received"), sent: part("sent") };
}

/** The next of 1, 2, 5, 10... of the unit that it is shown in. */
function nice(value) {
  let unit = 1024;
  while (unit * 500 < value)
    unit *= 1024;
  const step = unit * 10 ** Math.max(0, Math.floor(Math.log10(value / unit)));
  return step * [1, 2, 5, 10].find(factor => step * factor >= value);
}
