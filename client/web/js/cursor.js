/**
 * A reader's place in one log, and what an arriving entry means there.
 *
 * The invariant it guards: everything up to `at` is held. An entry whose `prev` is not what was held last means that something is
 * missing, and is never stepped over in silence.
 *
 * A message this session sent is not pushed back to it: the reply stands for the entry. An entry stored before it may still be on its way,
 * so a reply is remembered until the cursor reaches it. Where the server tells `prev` in a reply, nothing can be missing between two replies
 * unseen; where it does not, the server is trusted to pass on what came before a reply before what came after it.
 */

import { comparePositions } from "./protocol.js";

export class Cursor {
  /** The position of each reply beyond the cursor, to the position before it, or to undefined where the server did not tell. */
  #replied = new Map();

  /** @param {string | null} at null: nothing is known of this log yet, and whatever comes first is in order */
  constructor(at = null) {
    this.at = at;
  }

  /** @returns {"next" | "duplicate" | "gap"} what an entry at `at`, stored right after `prev`, is to this reader; changes nothing */
  judge(at, prev) {
    if (this.at === null) return "next";
    if (comparePositions(at, this.at) <= 0) return "duplicate";
    if (this.#leadsTo(prev)) return "next";
    return this.#replied.has(at) ? "duplicate" : "gap";
  }

  /** Everything up to `at` is held now. An older `at` changes nothing. */
  advance(at) {
    if (this.at !== null && comparePositions(at, this.at) <= 0) return;
    this.at = at;
    for (const [position, prev] of this.#replied) {
      if (comparePositions(position, this.at) <= 0) this.#replied.delete(position);
      else if (prev === this.at) return this.advance(position);
    }
  }

  /** The entry at `at` is held through the reply to its sending; `prev` may be undefined. */
  reply(at, prev) {
    if (this.at !== null && prev === this.at) this.advance(at);
    else if (this.at === null || comparePositions(at, this.at) > 0) this.#replied.set(at, prev);
  }

  /** The log is read again from `at` on; null: from wherever the server starts. */
  restart(at) {
    this.at = at;
    this.#replied.clear();
  }

  /** Whether all that is held leads from the cursor to `position` without a break that could be seen. */
  #leadsTo(position) {
    if (position === this.at) return true;
    if (!this.#replied.has(position)) return false;
    const prev = this.#replied.get(position);
    return prev === undefined || this.#leadsTo(prev);
  }
}
