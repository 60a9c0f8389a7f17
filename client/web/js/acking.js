/** Tells the server what the replica has kept. Acks are cumulative, so one now and then is as good as one per message. */

import { requests } from "./protocol.js";

export const ACK_SECONDS = 0.5;

export class Acking {
  #ports;
  #upto = new Map();
  #loggedIn = false;
  #cancel = null;

  /** @param {object} ports the session's */
  constructor(ports) {
    this.#ports = ports;
  }

  /** The replica has kept everything of these logs up to these positions. @param {Map<string, string>} cursors */
  kept(cursors) {
    for (const [log, at] of cursors) this.#upto.set(log, at);
    this.#soon();
  }

  /** Logged in: what was kept in between may be told. */
  start() {
    this.#loggedIn = true;
    this.#soon();
  }

  stop() {
    this.#loggedIn = false;
    this.#cancel?.();
    this.#cancel = null;
  }

  #soon() {
    if (!this.#loggedIn || this.#cancel || this.#upto.size === 0) return;
    this.#cancel = this.#ports.after(ACK_SECONDS, () => this.#tell());
  }

  #tell() {
    this.#cancel = null;
    for (const [log, at] of this.#upto) this.#ports.write(requests.ack(log, at));
    this.#upto.clear();
  }
}
