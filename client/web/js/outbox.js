/**
 * What this device was asked to send and the server has not yet answered for, in the order of writing.
 *
 * One message per conversation is on its way at a time. A message that must be repeated (the store was out of reach, the rate was too
 * high) can then never end up behind a later one of the same conversation. A window would be faster, and nobody types that fast.
 *
 * What was confirmed is kept for a minute, in memory. When the store may have lost it, the server asks for it: then it goes first in its
 * conversation again, and is shown no more than before. A page that is closed meanwhile does not bring it back.
 *
 * A message is in exactly one state: `waiting` (not sent, or to be repeated), `flying` (no answer yet), `failed` (refused for good).
 */

/**
 * @typedef {{seq: number, id: string, to: string, body: unknown, time: number, state: "waiting" | "flying" | "failed", again?: boolean, code?: string}} Item
 * `seq` orders a device's messages; `time` is when it was written, in milliseconds since 1970, by this machine's clock.
 * `again`: it may be stored already, since nobody knows what became of it.
 */

const KEPT_SECONDS = 60;
const MOST_KEPT = 1000;

export class Outbox {
  /** @type {Item[]} */
  #items = [];
  /** @type {Item[]} confirmed, and to be sent again */
  #again = [];
  /** @type {{item: Item, confirmed: number}[]} oldest first; milliseconds since 1970 */
  #kept = [];

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
    for (const item of [...this.#again, ...this.#items]) {
      if (item.state !== "failed" && !heads.has(item.to)) heads.set(item.to, item);
    }
    return [...heads.values()].filter((item) => item.state === "waiting");
  }

  /** The message has been answered for, or is given up: it leaves. @returns {Item | undefined} */
  remove(id) {
    const item = this.find(id);
    if (item) this.#items.splice(this.#items.indexOf(item), 1);
    return item;
  }

  /** The server says that it is stored: it leaves, and is kept for a while. @returns {Item | undefined} */
  answered(id, now) {
    const again = this.#again.find((item) => item.id === id);
    this.#again = this.#again.filter((item) => item !== again);
    const item = this.remove(id) ?? again;
    if (item) this.#kept.push({ item, confirmed: now });
    this.#forgetOld(now);
    return item;
  }

  /** Its own log shows that it is stored, which the other's may have lost: it leaves, and is sent again. @returns {Item | undefined} */
  doubt(id) {
    const item = this.remove(id);
    if (item) this.#again.push(item);
    return item;
  }

  /** What was confirmed in the last so many seconds may be lost: it is due before all else, and what is flying is repeated behind it. */
  resend(seconds, now) {
    this.#forgetOld(now);
    this.interrupted();
    const lost = this.#kept.filter(({ confirmed }) => now - confirmed <= seconds * 1000).map(({ item }) => item);
    for (const item of lost) item.state = "waiting";
    this.#again = [...lost, ...this.#again];
    this.#kept = [];
  }

  #forgetOld(now) {
    this.#kept = this.#kept.filter(({ confirmed }) => now - confirmed <= KEPT_SECONDS * 1000).slice(-MOST_KEPT);
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
    for (const item of [...this.#again, ...this.#items]) if (item.state === "flying") Object.assign(item, { state: "waiting", again: true });
  }
}
