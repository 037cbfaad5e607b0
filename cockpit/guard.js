/** What this host is and depends on: who bans that bans himself. */

/* global cockpit */

import { button } from "./cells.js";
import { ban } from "./changes.js";
import { ask } from "./daemon.js";

const LASTS_MS = 60_000;
const GROUP = /^(ff|22[4-9]|23\d|255|0\.|::$)/i; // nobody, or whoever has no address yet
let guarded = new Map(), learned = -LASTS_MS;

/** Learns it, unless it was learned within the last minute. */
export async function learnGuard() {
  if (performance.now() - learned < LASTS_MS)
    return;
  const { rules } = await ask("Rules");
  const own = await cockpit.file("/proc/net/if_inet6").read().catch(() => ""); // the guard has those of IPv4
  learned = performance.now();
  guarded = new Map([...(own ?? "").matchAll(/^\w{32}/gm)].map(([hex]) => [written(hex), "own address"]));
  rules.filter(rule => rule.kind === "guard").forEach(rule => guarded.set(rule.cidr, rule.label));
}

const written = hex => new URL(`ws://[${hex.match(/.{4}/g).join(":")}]`).hostname.slice(1, -1);

/** What an address is to this host, in words; undefined: nothing. */
export const role = address => guarded.get(address);

/** A button that bans a source, if that makes sense. `about` tells it from others for the same source. */
export function banButton(address, reason = "", about = "") {
  return address && !guarded.has(address) && !GROUP.test(address)
    && button("Ban", () => ban(address, reason), { changes: true, key: `ban ${address}${about && ` for ${about}`}` });
}
