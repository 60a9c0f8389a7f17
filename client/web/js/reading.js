/**
 * The logs this device follows, each with its cursor: which entries are passed on, and where reading goes on after a new login.
 *
 * An entry is passed on only if it follows what was passed on last. At a gap the log is read again from the cursor, over a new
 * connection. A gap that this did not close is the server's last word: it is stepped over and reported as a hole, since waiting for what
 * is missing would be waiting for ever.
 */

import { Cursor } from "./cursor.js";
import { OWN_LOG, comparePositions } from "./protocol.js";

export class Reading {
  #emit;
  #cursors = new Map();
  #unclosedGap = "";

  /** @param {Map<string, string>} positions log to what the replica holds @param {(event: object) => void} emit as the session's port */
  constructor(positions, emit) {
    this.#emit = emit;
    for (const [log, at] of positions) this.#cursors.set(log, new Cursor(at));
  }

  /** @returns {Map<string, string>} log to the position after which it is to be read */
  get positions() {
    return new Map([...this.#cursors].filter(([, cursor]) => cursor.at).map(([log, cursor]) => [log, cursor.at]));
  }

  /** The login was answered; `newest` is the newest position of the user's own log. Reading starts again from the cursors. */
  restart(newest) {
    for (const [log, cursor] of this.#cursors) cursor.restart(isBehind(log, newest, cursor.at) ? newest : cursor.at);
  }

  /**
   * @returns {"next" | "duplicate" | "gap"} `next`: to be passed on, then `passed` is due; `gap`: to be read again over a new connection
   */
  judge({ log, at, prev }) {
    const verdict = this.#cursor(log).judge(at, prev);
    return verdict === "gap" && this.#wasReadAgain(log) ? this.#stepOver(log, at) : verdict;
  }

  /** Everything of this log up to `at` has been passed on. */
  passed(log, at) {
    this.#move(log, (cursor) => cursor.advance(at));
  }

  /** A message of ours was answered for with this position; some servers also tell the one before it. */
  replied(log, at, prev) {
    this.#move(log, (cursor) => cursor.reply(at, prev));
  }

  /** The backlog has been passed on up to `at`, the newest position of the user's own log. */
  synced(at) {
    this.#unclosedGap = "";
    this.passed(OWN_LOG, at);
  }

  /** The log has lost what was behind `at`, and goes on there. */
  regressed(log, at) {
    if (isBehind(log, at, this.#cursor(log).at)) this.#cursor(log).restart(at);
  }

  /** What was to be read is no longer kept; `at` is the oldest that is. */
  truncated(log, at) {
    this.#cursor(log).restart(null);
    this.#emit({ type: "hole", log, at });
  }

  /** A group is read from there, unless it was joined before and is read already. */
  joined(group, from) {
    const cursor = this.#cursor(group);
    if (cursor.at === null || comparePositions(from, cursor.at) > 0) cursor.restart(from);
  }

  /** A group says nothing more to this user: it is not asked for any more. */
  left(group, from) {
    const cursor = this.#cursor(group);
    if (cursor.at === null || comparePositions(cursor.at, from) <= 0) this.#cursors.delete(group);
  }

  #wasReadAgain(log) {
    const gap = `${log} ${this.#cursor(log).at}`;
    const again = this.#unclosedGap === gap;
    this.#unclosedGap = again ? "" : gap;
    return again;
  }

  #stepOver(log, at) {
    this.#emit({ type: "hole", log, at });
    return "next";
  }

  #move(log, move) {
    const cursor = this.#cursor(log);
    const before = cursor.at;
    move(cursor);
    if (cursor.at !== before) this.#emit({ type: "cursor", log, at: cursor.at });
  }

  #cursor(log) {
    if (!this.#cursors.has(log)) this.#cursors.set(log, new Cursor());
    return this.#cursors.get(log);
  }
}

/** A server that lost the end of the log (a failover can) stands behind us: its next entry follows its own newest, not ours. */
function isBehind(log, newest, at) {
  return log === OWN_LOG && typeof newest === "string" && at !== null && comparePositions(newest, at) < 0;
}
