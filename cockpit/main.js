/** The page: its tabs, the view that the address names, and the tick that keeps it fresh while somebody looks. */

/* global cockpit */

import "./theme.js";
import { go, link } from "./cells.js";
import { onChange, showProbation } from "./changes.js";
import { Samples } from "./chart.js";
import { ask, hangUp } from "./daemon.js";
import { sentence } from "./dialog.js";
import { fill, h } from "./dom.js";
import * as rights from "./rights.js";
import { why } from "./trouble.js";
import { Problem } from "./varlink.js";
import audit from "./views/audit.js";
import explain from "./views/explain.js";
import history from "./views/history.js";
import live from "./views/live.js";
import overview from "./views/overview.js";
import rules from "./views/rules.js";
import threats from "./views/threats.js";
import usage from "./views/usage.js";

/** Each makes {element, top, moment, every, refresh}: what it asks of `Top` and does with the answer at every tick, and
 * what it asks itself every so many ticks. It is given the options of its address, the samples, and a way to be
 * refreshed again at once. */
const TABS = { overview, live, threats, rules, history, usage, audit };
const VIEWS = { ...TABS, explain };
const TICK_MS = 2000, SLOWEST_MS = 10_000;
const SHARE = 0.005; // of a CPU for what moves; the rest is little
const PATIENCE_MS = 10_000; // the daemon answers within milliseconds
const LATE = "a query of a large history takes time";
const EVERY = 5;

const page = id => document.getElementById(id);
const samples = new Samples();
let view = null;
let ticks = 0;
let timer = null;
let asking = false; // whether answers are outstanding
let turn = 0; // of the tick whose answers are wanted; those of an earlier one come too late

function show() {
  const [name = "overview"] = cockpit.location.path;
  const made = VIEWS[name] ?? overview;
  view = made({ ...cockpit.location.options }, { samples, again: now });
  page("view").replaceChildren(view.element);
  page("tabs").replaceChildren(...Object.keys(TABS).map(tab =>
    h("a", { href: link(tab), "aria-current": tab === name && "page" }, tab)));
  page("result").hidden = true;
  page("explain").elements.address.value = name === "explain" ? cockpit.location.options.address ?? "" : "";
  now();
}

/** A tick at once, with all that the view can ask; whatever is still being asked for another is given up. */
function now() {
  ticks = 0;
  clearTimeout(timer);
  if (asking)
    hangUp();
  if (!cockpit.hidden)
    tick();
}

async function tick() {
  const mine = ++turn, current = view;
  const due = ticks++ % (current.every ?? EVERY) === 0;
  const late = setTimeout(() => tell(mine, new Problem("no answer yet", { hint: LATE })), PATIENCE_MS);
  const began = performance.now();
  let took = 0;
  asking = true;
  try {
    const refreshed = due ? current.refresh?.() : null;
    const shown = ask("Top", current.top ?? { limit: 0 }).then(top => {
      took = performance.now() - began;
      if (mine === turn) {
        samples.take(top);
        showProbation(top.probation);
        current.moment?.(top);
        page("view").hidden = false;
      }
      return top;
    });
    const [top] = await Promise.all([shown, refreshed]);
    if (mine === turn) {
      if (due)
        current.moment?.(top);
      page("trouble").hidden = true;
      page("view").classList.remove("stale");
    }
  } catch (problem) {
    ticks = 0; // everything is requested again
    await tell(mine, problem);
  } finally {
    clearTimeout(late);
    if (mine === turn) {
      asking = false;
      timer = setTimeout(tick, Math.min(SLOWEST_MS, Math.max(TICK_MS, took / SHARE)));
    }
  }
}

/** Says at the top what is wrong, unless the page has gone on since. */
async function tell(mine, problem) {
  if (!(problem instanceof Problem))
    console.error(problem);
  const text = problem.lost ? await why(problem)
    : [h("strong", {}, sentence(problem.message)), problem.hint && h("p", {}, sentence(problem.hint))];
  if (mine !== turn)
    return;
  fill(page("trouble"), text);
  page("trouble").hidden = false;
  page("view").hidden = problem.lost && samples.latest === undefined;
  page("view").classList.toggle("stale", problem.lost === true);
}

function showRights() {
  page("access").hidden = rights.mayChange() || !rights.mayLook();
  page("access").textContent = `${rights.WHY_NOT} ${rights.WHAT_TO_DO}`;
}

/** Rights have come or gone: the next connection has them, and buttons are as they should be. */
function changed() {
  hangUp();
  showRights();
  show();
}

cockpit.transport.wait(async () => {
  onChange(now);
  page("explain").addEventListener("submit", event => {
    event.preventDefault();
    go("explain", { address: event.target.elements.address.value.trim() });
  });
  cockpit.addEventListener("locationchanged", show);
  cockpit.addEventListener("visibilitychange", () => {
    if (cockpit.hidden) {
      turn++;
      asking = false;
      clearTimeout(timer);
      hangUp();
    } else
      now();
  });
  show(); // its first question is on its way while it becomes known who asks
  await rights.known;
  rights.onRights(changed);
  showRights();
  show();
});
