/**
 * One device's session with the server, without socket, clock or page: frames go in, frames and events come out.
 *
 * The stages, and what leads from one to the next:
 *
 *     offline ── opened() ──▶ joining ── login answered ──▶ catching-up ── synced ──▶ live
 *        ▲                       │                               │                     │
 *        └────── lost() ─────────┴───────────────────────────────┴─────────────────────┘
 *     any ── login refused, bye without reconnect, logout() ──▶ over
 *
 * Its rules:
 * - An entry is passed on only if it follows what was passed on last (`reading.js`).
 * - The outbox is emptied only while live. What an earlier connection left unanswered has then shown itself in the backlog if it was
 *   stored, so nothing stored is ever sent again, not even after the server has forgotten the message's id.
 * - What was confirmed lately is sent again when the server asks for it, before anything newer: the store may have lost it.
 * - An ack is sent for what the replica has kept, never for what has merely arrived.
 *
 * It reaches the world through six ports:
 * - `write(frame)`: send this frame (called only between `opened` and `lost`);
 * - `emit(event)`: tell what happened, `{type, ...}`; the types are listed at `Event` below;
 * - `after(seconds, act)`: call `act` once, later; returns a function that cancels it;
 * - `now()`: milliseconds since 1970;
 * - `random()`: a number from 0 to 1;
 * - `newId()`: a message id this device has never used.
 */

import { Acking } from "./acking.js";
import { Asking, Lost, REPLY_SECONDS } from "./asking.js";
import {
  OWN_LOG,
  cleanText,
  isGroup,
  isPosition,
  requests,
  sinceOf,
  toContact,
  toError,
  toMembership,
  toAmendment,
  toMessage,
} from "./protocol.js";
import { Recent } from "./recent.js";
import { Reading } from "./reading.js";
import { Sending } from "./sending.js";

/**
 * @typedef {{type: "stage", stage: string}
 *   | {type: "welcome", token: string, expires: number, ping: number}
 *   | {type: "refused", error: import("./protocol.js").RequestError}   login or registration was refused: the session is over
 *   | {type: "later", after: number}                    nobody is let in now: the connection must be made anew in so many seconds
 *   | {type: "amendment", amendment: import("./amendments.js").Amendment}
 *   | {type: "message", message: object, live: boolean, was: string | null} the next message of a log, or one of ours that was
 *     answered for; with `was`, it was passed on before, and stands no longer there
 *   | {type: "cursor", log: string, at: string}         everything of that log up to there has been passed on
 *   | {type: "hole", log: string, at: string}           what lay before `at` cannot be had from the log any more
 *   | {type: "outbox", item: object, gone: boolean}     this item changed, or left
 *   | {type: "stale", why: string}                      the connection must be made anew
 *   | {type: "bye", code: string, text: string, reconnect: boolean, after: number}
 *   | {type: "membership", group: string, change: string} the user was invited to, joined or left a group
 *   | {type: "contact", contact: import("./protocol.js").Contact}   how this user stands to another one from now on
 *   | {type: "presence", user: string, show: string, status: string}
 *   | {type: "typing", from: string, to: string, on: boolean}
 *   | {type: "read", by: string, with: string, upto: string | null, mark: import("./protocol.js").Mark | null}
 *   | {type: "delivered", by: string, mark: import("./protocol.js").Mark}
 *   | {type: "conversations"}                         marks may have been missed: the list tells how they stand
 *   | {type: "trouble", code: string, text: string}     the server complains of something that belongs to no request
 * } Event
 */

export class Session {
  stage = "offline";
  #me;
  #device;
  #credentials;
  #outbox;
  #ports;
  #asking;
  #sending;
  #reading;
  #acking;
  #recent = new Recent();
  #inDoubt = false; // asked to send again, on this connection
  #maxFrame = 65536;
  #unsupported = new Set();

  /**
   * @param {object} setup
   * @param {{user: string, device: string}} setup.account
   * @param {{token: string} | {password: string, register?: boolean}} setup.credentials a password is forgotten at the first welcome
   * @param {Map<string, string>} setup.cursors log to the position up to which the replica holds it
   * @param {import("./outbox.js").Outbox} setup.outbox
   * @param {object} setup.ports see above
   */
  constructor({ account, credentials, cursors, outbox, ports }) {
    this.#me = account.user;
    this.#device = account.device;
    this.#credentials = credentials;
    this.#outbox = outbox;
    this.#ports = ports;
    this.#asking = new Asking(ports, (op) => this.#stale(`no answer to ${op} in ${REPLY_SECONDS} seconds`));
    this.#sending = new Sending(outbox, this.#asking, ports, this.#sendingEvents);
    this.#reading = new Reading(cursors, ports.emit);
    this.#acking = new Acking(ports);
  }

  // ---- the connection ----

  /** A connection stands; the session introduces itself. */
  opened() {
    if (this.stage === "over") return;
    this.#enter("joining");
    if (this.#credentials.register) this.#register();
    else this.#login();
  }

  /** @param {object} decoded what `decode` made of a frame */
  received(decoded) {
    if (this.stage !== "offline" && this.stage !== "over") this.#kinds[decoded.kind](decoded);
  }

  /** The connection is gone. Requests other than sends fail with `Lost`; sends stay in the outbox. */
  lost() {
    this.#rest();
    if (this.stage !== "over") this.#enter("offline");
    this.#asking.lost();
  }

  // ---- what a person does ----

  /** Queues a message; it is sent as soon as the session is live and its turn has come. */
  send(to, body) {
    const carried = typeof body === "string" ? cleanText(body) : body;
    this.#changed(this.#outbox.add(this.#ports.newId(), to, carried, this.#ports.now()));
    this.#sending.flush();
  }

  /** A refused message is tried once more. */
  retry(id) {
    const old = this.#outbox.find(id);
    const item = this.#outbox.renew(id, this.#ports.newId(), this.#ports.now());
    if (!item) return;
    this.#changed(old, true);
    this.#changed(item);
    this.#sending.flush();
  }

  /** A refused message is given up. */
  discard(id) {
    if (this.#outbox.find(id)?.state === "failed") this.#settle(id);
  }

  /** The replica has kept everything of these logs up to these positions. @param {Map<string, string>} cursors */
  kept(cursors) {
    this.#acking.kept(cursors);
  }

  /**
   * Messages of one conversation before a position (null: the newest), oldest first; where there are `more`, they are before `next`. A page
   * may be empty and yet there are more: the server looks through a bounded part of the log at a time.
   * @returns {Promise<{messages: object[], more: boolean, next: string | null}>}
   * @throws {Lost} @throws {import("./protocol.js").RequestError}
   */
  async history(partner, before, limit) {
    return pageIn(await this.ask(requests.history(partner, before, limit)), logOf(partner));
  }

  /** The `ok` of a request. @throws {Lost} @throws {import("./protocol.js").RequestError} */
  ask(frame) {
    if (!this.#loggedIn) return Promise.reject(new Lost("there is no connection"));
    return new Promise((resolve, reject) => this.#asking.ask(frame, resolve, reject));
  }

  /** Joins a group that is open, or has invited this user; others refuse, which shows when something is sent. */
  join(group) {
    this.#tell(requests.join(group));
  }

  /** Everything of this conversation up to `upto` was seen by a person. */
  read(partner, upto) {
    this.#tell(requests.read(partner, upto));
  }

  typing(to, on) {
    this.#tell(requests.typing(to, on));
  }

  /** Ends the session for good; the server forgets nothing. */
  logout() {
    if (this.stage !== "offline" && this.stage !== "over") this.#ports.write(requests.logout());
    this.#end();
  }

  // ---- what the server says ----

  #kinds = {
    ok: ({ ref, ok }) => this.#asking.ok(ref, ok),
    err: ({ ref, error }) => this.#asking.error(ref, error),
    entry: (entry) => this.#entryCame(entry),
    event: ({ name, frame }) => this.#events[name](frame),
    unknown: () => {},
  };

  #events = {
    synced: (frame) => this.#synced(frame),
    regressed: (frame) => this.#reading.regressed(frame.log ?? OWN_LOG, frame.at),
    resend: (frame) => this.#resend(frame.seconds),
    truncated: (frame) => this.#reading.truncated(frame.log ?? OWN_LOG, frame.at),
    bye: (frame) => this.#bye(frame),
    error: (frame) => this.#ports.emit({ type: "trouble", code: frame.code, text: toError(frame).message }),
    ping: () => {},
    presence: ({ user, show, status }) => this.#ports.emit({ type: "presence", user, show, status: typeof status === "string" ? status : "" }),
    typing: (frame) => this.#ports.emit({ type: "typing", from: frame.from, to: frame.to, on: frame.on === true }),
    read: (frame) => this.#ports.emit({ type: "read", by: frame.by, with: frame.with, upto: frame.upto ?? null, mark: markIn(frame) }),
    delivered: (frame) => this.#ports.emit({ type: "delivered", by: frame.by, mark: markIn(frame) }),
    conversations: () => this.#ports.emit({ type: "conversations" }),
  };

  #sendingEvents = {
    stored: (item, ok) => this.#stored(item, ok),
    changed: (item) => this.#changed(item),
    loggedOut: () => this.#stale("the server has no session for this connection"),
  };

  // ---- logging in ----

  #register() {
    const { password } = this.#credentials;
    const onOk = () => {
      this.#credentials = { password };
      this.#login();
    };
    this.#asking.ask(requests.register(this.#me, password), onOk, (error) => this.#refused(error));
  }

  #login() {
    const { token, password } = this.#credentials;
    const secret = token ? { token } : { user: this.#me, password };
    const frame = requests.login(this.#device, secret, sinceOf(this.#reading.positions));
    this.#asking.ask(frame, (ok) => this.#welcomed(ok), (error) => this.#refused(error));
  }

  #welcomed(ok) {
    if (typeof ok.token === "string") this.#credentials = { token: ok.token };
    this.#maxFrame = ok.max_frame ?? this.#maxFrame;
    this.#reading.restart(ok.at);
    this.#enter("catching-up");
    this.#ports.emit({ type: "welcome", token: ok.token ?? "", expires: ok.expires ?? 0, ping: ok.ping ?? 60 });
    this.#acking.start();
  }

  /** A token is tried again when the reason has passed; somebody who has just typed a password is told at once. */
  #refused(error) {
    if (error instanceof Lost) return;
    if (error.passing && this.#credentials.token) {
      this.#ports.emit({ type: "later", after: error.retry ?? 0 });
      return;
    }
    this.#end();
    this.#ports.emit({ type: "refused", error });
  }

  #synced(frame) {
    this.#reading.synced(frame.at);
    this.#enter("live");
    this.#sending.start(this.#maxFrame);
  }

  #bye(frame) {
    const reconnect = frame.reconnect !== false;
    const after = typeof frame.after === "number" ? Math.max(0, frame.after) : 0;
    if (!reconnect) this.#end();
    this.#ports.emit({ type: "bye", code: frame.code, text: frame.text ?? "", reconnect, after });
  }

  #end() {
    this.#rest();
    this.#enter("over");
  }

  // ---- reading logs ----

  #entryCame(entry) {
    const verdict = this.#reading.judge(entry);
    if (verdict === "gap") this.#stale(`an entry before ${entry.at} is missing`);
    if (verdict !== "next") return;
    this.#passOn(entry);
    this.#reading.passed(entry.log, entry.at);
  }

  #passOn({ log, frame }) {
    const membership = toMembership(frame, log);
    if (membership) this.#memberOf(membership);
    const message = toMessage(frame, log);
    const contact = toContact(frame);
    if (contact) this.#ports.emit({ type: "contact", contact });
    const amendment = toAmendment(frame, log);
    if (amendment) this.#ports.emit({ type: "amendment", amendment });
    if (!message) return;
    this.#ports.emit({ type: "message", message, live: this.stage === "live", was: this.#recent.place(message) });
    if (message.from === this.#me && message.device === this.#device) this.#showsAsSent(message.id);
  }

  #memberOf({ group, change, from }) {
    if (change === "joined") this.#reading.joined(group, from);
    else if (change !== "invited") this.#reading.left(group, from);
    this.#ports.emit({ type: "membership", group, change });
  }

  // ---- the outbox ----

  #stored(item, ok) {
    const log = logOf(item.to);
    const message = toMessage({ ...item, at: ok.at, from: this.#me, device: this.#device }, log);
    if (message) this.#ports.emit({ type: "message", message, live: true, was: this.#recent.place(message) });
    if (message) this.#reading.replied(log, message.at, ok.prev);
    this.#left(this.#outbox.answered(item.id, this.#ports.now()));
  }

  /** Our own log has it; so has the other's, unless a store has lost its newest entries. */
  #showsAsSent(id) {
    this.#left(this.#inDoubt ? this.#outbox.doubt(id) : this.#outbox.answered(id, this.#ports.now()));
  }

  #resend(seconds) {
    this.#inDoubt = true;
    this.#sending.resend(seconds);
  }

  #settle(id) {
    this.#left(this.#outbox.remove(id));
  }

  #left(item) {
    if (item) this.#changed(item, true);
  }

  #changed(item, gone = false) {
    this.#ports.emit({ type: "outbox", item, gone });
  }

  // ---- markers ----

  /** For what does no harm if it does not arrive, and what an older server may not know: then it is not bothered again. */
  #tell(frame) {
    if (this.stage !== "live" || this.#unsupported.has(frame.op)) return;
    const onError = (error) => error.code === "unknown-op" && this.#unsupported.add(frame.op);
    this.#asking.ask(frame, () => {}, onError);
  }

  // ---- small parts ----

  get #loggedIn() {
    return this.stage === "catching-up" || this.stage === "live";
  }

  #stale(why) {
    this.#ports.emit({ type: "stale", why });
  }

  #rest() {
    this.#inDoubt = false;
    this.#sending.stop();
    this.#acking.stop();
  }

  #enter(stage) {
    if (this.stage === stage) return;
    this.stage = stage;
    this.#ports.emit({ type: "stage", stage });
  }
}

function markIn({ device = "", id }) {
  return typeof id === "string" ? { device, id } : null;
}

function logOf(partner) {
  return isGroup(partner) ? partner : OWN_LOG;
}

function pageIn(ok, log) {
  const list = Array.isArray(ok.messages) ? ok.messages : [];
  const messages = list.map((frame) => toMessage(frame, log)).filter((message) => message !== null);
  const next = isPosition(ok.next) ? ok.next : (messages[0]?.at ?? null);
  const changes = Array.isArray(ok.amendments) ? ok.amendments : [];
  const amendments = changes.map((frame) => toAmendment(frame, log)).filter((amendment) => amendment !== null);
  return { messages, amendments, more: ok.more === true && next !== null, next };
}
