/** Elements made and replaced. Text goes in as text: nothing that a stranger chose is ever read as HTML. */

/** An element; `on...` attributes are listeners, those that are false or null are left out. */
export function h(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on"))
      element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts these in the place of what an element holds, unless somebody is just pressing or marking something there.
 *
 * The focus stays: `data-key` says which new element an old one has become. */
export function fill(element, ...children) {
  const selection = getSelection();
  if (element.querySelector(":active") || (!selection.isCollapsed && selection.containsNode(element, true)))
    return;
  const focused = document.activeElement;
  const key = element.contains(focused) && focused !== element ? focused.dataset.key : null;
  element.replaceChildren(...children.flat().filter(child => child));
  if (key)
    element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** A card with a heading; `tools` stand beside it. */
export function card(title, content, tools = []) {
  return h("section", { class: "card" },
    h("div", { class: "head" }, h("h2", {}, title), h("span", { class: "tools" }, tools)), content);
}

/** What is shown where there is nothing: what that means, and the next step. */
export function empty(text, ...step) {
  return h("p", { class: "empty" }, h("strong", {}, text), " ", step);
}

const LONG = 32; // characters; such a text may be broken anywhere

/** A table. A column is [title, row => text or element, kind]; of kind "number" it stands on the right, of "wide" it
 * has a line of its own on a phone, where each row is a card unless the table is of another kind than "rows". A column
 * of which no row has anything is left out. */
export function table(columns, rows, kind = "rows") {
  const cells = rows.map(row => columns.map(([, cell]) => cell(row) ?? ""));
  const used = columns.map((_, at) => cells.some(line => line[at] !== "" && line[at] !== false));
  const heads = columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title));
  const lines = cells.map(line => h("tr", {}, line.map((cell, at) =>
    h("td", { class: columns[at][2], "data-title": columns[at][0] },
      cell.length > LONG ? h("span", { class: "long" }, cell) : cell)).filter((_, at) => used[at])));
  return h("table", { class: kind }, h("thead", {}, h("tr", {}, heads.filter((_, at) => used[at]))), h("tbody", {}, lines));
}

/** Names and values. */
export function facts(pairs) {
  return h("dl", {}, pairs.filter(pair => pair).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** A drop-down; `options` are [value, text]. */
export function select(name, options, chosen) {
  return h("select", { name }, options.map(([value, text]) =>
    h("option", { value, selected: String(value) === String(chosen) }, text)));
}
