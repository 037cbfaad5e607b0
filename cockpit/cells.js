/** What several tables show alike: addresses that can be explained, ends of flows, words with a colour, buttons. */

import { h } from "./dom.js";
import * as rights from "./rights.js";
import { host } from "./words.js";

/** The part of the address behind the # that leads to a view. */
export function link(view, options = {}) {
  const given = Object.entries(options).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  return `#/${view}${query && "?"}${query}`;
}

/** Goes to a view. */
export const go = (view, options) => { location.hash = link(view, options); };

/** An address, which leads to its explanation; a prefix, or what else stands in the place of one, is text. */
export function address(text) {
  const plain = host(text ?? "");
  return /^[0-9a-f.:]+$/i.test(plain)
    ? h("a", { class: plain.length > 25 ? "long" : "address", href: link("explain", { address: plain }), "data-key": `see ${plain}` }, plain)
    : plain;
}

/** One end of a flow: its address, and its port where its protocol has ports. */
export function end(row, side) {
  const port = !row.protocol.startsWith("ICMP") && row[`${side}_port`];
  return h("span", {}, address(row[`${side}_ip`]), port ? h("span", { class: "port" }, ` :${port}`) : "");
}

/** A word whose meaning has a colour: a severity, an action, a state. */
export const badge = word => h("span", { class: `badge ${word}` }, word);

/** A button. `key` tells it from others with the same text, to the page and to who hears it read out. `changes`: what it
 * does is for administrators, so it says why where it cannot be used. */
export function button(text, onclick, { changes = false, kind = "", key = text } = {}) {
  const barred = changes && !rights.mayChange();
  const title = barred ? `${rights.WHY_NOT} ${rights.WHAT_TO_DO}` : null;
  const about = { "data-key": key, "aria-label": key, disabled: barred, title };
  return h("button", { type: "button", class: kind, onclick, ...about }, text);
}
