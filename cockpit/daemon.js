/** The daemon, over one connection that is opened when it is needed and let go while nobody looks. */

import { Connection } from "./varlink.js";

let kept = null;

/** Asks, or changes: the daemon decides by who is at the other end. Rejects with a Problem. */
export function ask(method, parameters, more) {
  if (!kept) {
    const opened = new Connection(() => {
      if (kept === opened)
        kept = null;
    });
    kept = opened;
  }
  return kept.call(method, parameters, more);
}

/** Ends the connection; the next question opens another, with the rights that Cockpit has then. */
export function hangUp() {
  kept?.close();
  kept = null;
}
