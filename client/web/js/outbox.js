/**
 * What this device was asked to send and the server has not yet answered for, in the order of writing.
 *
 * One message per conversation is on its way at a time. A message that must be repeated (the store was out of reach, the rate was too
 * high) can then never end up behind a later one of the same conversation. A window would be faster, and nobody types that fast.
 *
 * A message is in exactly one state: `waiting` (not sent, or to be repeated), `flying` (no answer yet), `failed` (refused for good).
 */

/**
 * @typedef {{seq: number, id: string, to: string, body: unknown, time: number, state: "waiting" | "flying" | "failed", again?: boolean, code?: string}} Item
 * `seq` orders a device's messages; `time` is when it was written, in milliseconds since 1970, by this machine's clock.
 * `again`: it may be stored already, since nobody knows what became of it.
 */

export class Outbox {
  /** @type {Item[]} */
  #items = [];

  /** @param {Item[]} kept what an earlier page of this device left unanswered; what was flying then has an unknown outcome */
  constructor(kept = []) {
    this.#items = [...kept].sort((a, b) => a.seq - b.seq);
    this.interrupted();
  }

  get size() {
    return this.#items.length;
  }

  /** How many are neither refused nor answered. */
  get unsent() {
    return this.#items.filter((item) => item.state !== "failed").length;
  }

  add(id, to, body, time) {
    const item = { seq: (this.#items.at(-1)?.seq ?? 0) + 1, id, to, body, time, state: "waiting" };
    this.#items.push(item);
    return item;
  }

  find(id) {
    return this.#items.find((item) => item.id === id);
  }

  /** @returns {Item[]} the messages to one partner, oldest first */
  to(partner) {
    return this.#items.filter((item) => item.to === partner);
  }

  /** @returns {string[]} everybody a message is kept for */
  partners() {
    return [...new Set(this.#items.map((item) => item.to))];
  }

  /** @returns {Item[]} what may be sent now: the first unanswered message of each conversation, unless it is flying already */
  due() {
    const heads = new Map();
    for (const item of this.#items) if (item.state !== "failed" && !heads.has(item.to)) heads.set(item.to, item);
    return [...heads.values()].filter((item) => item.state === "waiting");
  }

  /** The message has been answered for, or is given up: it leaves. @returns {Item | undefined} */
  remove(id) {
    const item = this.find(id);
    if (item) this.#items.splice(this.#items.indexOf(item), 1);
    return item;
  }

  /**
   * A refused message is tried again: under a new id and as the latest, since the conversation has gone on without it.
   * @returns {Item | undefined} the new one
   */
  renew(id, newId, time) {
    const old = this.find(id);
    if (old?.state !== "failed") return undefined;
    this.remove(id);
    return this.add(newId, old.to, old.body, time);
  }

  /** The connection is lost: the outcome of what was flying is unknown, so it is to be repeated with its id. */
  interrupted() {
    for (const item of this.#items) if (item.state === "flying") Object.assign(item, { state: "waiting", again: true });
  }
}
