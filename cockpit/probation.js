/** The change that the kernel takes back unless somebody keeps it, with the seconds that are left. */

import { button } from "./cells.js";
import { confirm, rollBack } from "./changes.js";
import { fill, h } from "./dom.js";
import { span } from "./words.js";

/** Shows what `Top` tells of it; null: nothing is on probation. */
export function showProbation(probation) {
  const box = document.getElementById("probation");
  box.hidden = !probation;
  if (!probation)
    return;
  fill(box, h("p", {}, h("strong", {}, `On probation: ${probation.what}`), `, by ${probation.user}. `
    + `It is undone in ${span(probation.left_s)} unless somebody confirms it.`),
  h("span", { class: "tools" }, button("Keep it", confirm, { changes: true, kind: "primary" }),
    button("Take it back", rollBack, { changes: true })));
}
