/**
 * A reader's place in one log, and what an arriving entry means there.
 *
 * The invariant it guards: everything up to `at` is held. An entry whose `prev` is not what was held last means that something is
 * missing, and is never stepped over in silence.
 *
 * A message this session sent is not pushed back to it: the reply stands for the entry. The reply tells the entry's position but not
 * the one before it, so it cannot move the cursor (an entry stored between the two may still be on its way). It is remembered as one of
 * `#replied`, and an entry that follows it is in order.
 */

import { comparePositions } from "./protocol.js";

export class Cursor {
  #replied = new Set();

  /** @param {string | null} at null: nothing is known of this log yet, and whatever comes first is in order */
  constructor(at = null) {
    this.at = at;
  }

  /** @returns {"next" | "duplicate" | "gap"} what an entry at `at`, stored right after `prev`, is to this reader; changes nothing */
  judge(at, prev) {
    if (this.at === null) return "next";
    if (comparePositions(at, this.at) <= 0) return "duplicate";
    if (prev === this.at || this.#replied.has(prev)) return "next";
    return this.#replied.has(at) ? "duplicate" : "gap";
  }

  /** Everything up to `at` is held now. An older `at` changes nothing. */
  advance(at) {
    if (this.at !== null && comparePositions(at, this.at) <= 0) return;
    this.at = at;
    for (const position of this.#replied) if (comparePositions(position, at) <= 0) this.#replied.delete(position);
  }

  /** The entry at `at` is held through the reply to its sending. A server that tells `prev` with it lets the cursor move at once. */
  reply(at, prev) {
    if (this.at !== null && prev === this.at) this.advance(at);
    else if (this.at === null || comparePositions(at, this.at) > 0) this.#replied.add(at);
  }

  /** The log is read again from `at` on; null: from wherever the server starts. */
  restart(at) {
    this.at = at;
    this.#replied.clear();
  }
}
