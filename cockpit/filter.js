/** What a view is restricted to: a form whose fields are the options of the view's address. */

import { go } from "./cells.js";
import { values } from "./dialog.js";
import { h, select } from "./dom.js";

/** The form of a view; a change in it is another address. */
export function filter(view, ...fields) {
  const apply = event => {
    event.preventDefault();
    go(view, values(form));
  };
  const form = h("form", { class: "filter", onchange: apply, onsubmit: apply }, fields);
  return form;
}

/** A field to write in. */
export const entry = (label, name, value, placeholder = null) =>
  h("label", {}, label, h("input", { name, value, placeholder, spellcheck: "false" }));

/** A field to choose in. */
export const choice = (label, name, options, value) => h("label", {}, label, select(name, options, value));

const SPANS = [[600, "10 minutes"], [3600, "hour"], [86400, "day"], [604800, "7 days"], [2592000, "30 days"], [31536000, "year"]];

/** A field for how far back to look, in seconds. */
export const last = since => choice("The last", "since", SPANS, since);
