/** What stands in the way of any answer, in words, with the next step. */

/* global cockpit */

import { h } from "./dom.js";
import * as rights from "./rights.js";

const UNIT = "trafficmond.service";

/** The state of the daemon's unit, such as "active", or "" if systemd does not say. */
async function state() {
  try {
    const shown = await cockpit.spawn(["systemctl", "show", "--property=LoadState,ActiveState", UNIT],
      { err: "message" });
    return shown.includes("LoadState=not-found") ? "not-found" : /ActiveState=(.*)/.exec(shown)?.[1] ?? "";
  } catch {
    return "";
  }
}

async function start(event) {
  event.target.disabled = true;
  try {
    await cockpit.spawn(["systemctl", "start", UNIT], { superuser: "require", err: "message" });
  } catch (error) {
    event.target.after(h("p", {}, error.message || error.problem));
  }
}

const journal = () => h("button", { type: "button", class: "link",
  onclick: () => cockpit.jump(`/system/services#/${UNIT}`) }, "Its log");

/** Elements that tell why nobody answered; the page cannot know from the channel alone: bridges tell
 * the same in different words. */
export async function why(problem) {
  await rights.known;
  if (!rights.mayLook()) {
    return [h("strong", {}, `The user ${rights.name()} may not read trafficmon.`), h("p", {},
      "Turn on administrative access at the top of Cockpit, or ask an administrator to run this, and log in again: ",
      h("code", {}, `sudo usermod -aG trafficmon ${rights.name()}`))];
  }
  const is = await state();
  if (is === "not-found")
    return [h("strong", {}, "trafficmon is not installed on this host."),
      h("p", {}, h("code", {}, "sudo apt install trafficmon"))];
  if (is === "inactive" || is === "failed") {
    const may = rights.mayAdminister();
    return [h("strong", {}, is === "failed" ? "trafficmond has failed." : "trafficmond is not running."),
      h("p", {}, is === "failed" ? "Its log says why. "
        : "The setting on_stop decides whether filtering continues while it is stopped. ", journal()),
      h("button", { type: "button", class: "primary", disabled: !may, onclick: start,
        title: may ? null : "Turn on administrative access at the top of Cockpit to start it." }, "Start trafficmond")];
  }
  if (is === "activating" || is === "deactivating" || is === "reloading")
    return [h("strong", {}, "trafficmond is starting or stopping. This page continues as soon as it answers.")];
  return [h("strong", {}, "trafficmond does not answer."),
    h("p", {}, `${problem.message}. This page tries again. `, journal())];
}
