/** Varlink through a channel of Cockpit's: one JSON message and a NUL a call, answered in order. */

/* global cockpit */

const SOCKET = "/run/trafficmon/io.trafficmon";
const INTERFACE = "io.trafficmon.";

/** Why there is no answer. `lost`: nobody answered at all; otherwise the daemon said so, in words and with a hint. */
export class Problem extends Error {
  constructor(reason, { name = "", hint = "", mistakes = [], lost = false } = {}) {
    super(reason);
    Object.assign(this, { name, hint, mistakes, lost });
  }

  static of(reply) {
    const given = reply.parameters || {};
    const reason = given.reason || given.parameter || reply.error;
    return new Problem(reason, { ...given, name: reply.error.split(".").pop() });
  }
}

/** A connection that stays open; `ended` is called once when it is over. */
export class Connection {
  #waiting = [];
  #held = "";
  #decoder = new TextDecoder();
  #channel;

  constructor(ended) {
    // Of the framings that Cockpit has, only binary ones carry a NUL. "try": with administrative access if it is on.
    this.#channel = cockpit.channel({ payload: "stream", unix: SOCKET, binary: true, superuser: "try" });
    this.#channel.addEventListener("message", (_, data) => this.#take(data));
    this.#channel.addEventListener("close", (_, info) => {
      const why = new Problem(info.message || info.problem || "the connection was closed", { lost: true });
      this.#waiting.splice(0).forEach(call => call.reject(why));
      ended();
    });
  }

  /** The reply to a call. `more`: takes its pages one by one; the last of them is the reply. */
  call(method, parameters = {}, more = null) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject, more });
      const message = { method: INTERFACE + method, parameters, ...(more && { more: true }) };
      this.#channel.send(new TextEncoder().encode(JSON.stringify(message) + "\0"));
    });
  }

  close() {
    this.#channel.close();
  }

  #take(data) {
    const parts = (this.#held + this.#decoder.decode(data, { stream: true })).split("\0");
    this.#held = parts.pop();
    for (const part of parts)
      this.#answer(JSON.parse(part));
  }

  #answer(reply) {
    const call = this.#waiting[0];
    if (reply.continues)
      return call.more?.(reply.parameters);
    this.#waiting.shift();
    if (reply.error)
      return call.reject(Problem.of(reply));
    call.more?.(reply.parameters);
    call.resolve(reply.parameters);
  }
}
