/**
 * One signed-in user in one tab: the only place where connection, session, outbox, store and replica meet.
 *
 *     WebSocket ─▶ Connection ─ text ─▶ decode ─▶ Session ─ events ─▶ Store ─▶ Keeping ─▶ Replica
 *         ◀───────── encode ◀─ frames ─────┘  ▲                                    │
 *                                             └────────────── kept: ack ───────────┘
 */

import { randomText } from "./accounts.js";
import { Lost } from "./asking.js";
import { Connection } from "./connection.js";
import { Outbox } from "./outbox.js";
import { People } from "./people.js";
import { FrameError, RequestError, SUBPROTOCOL, decode, encode, isGroup, requests, toContact, toStanding } from "./protocol.js";
import { Session } from "./session.js";

/** The ref of a probe's answer belongs to no request, so the session passes over it. */
const PROBE = encode({ ...requests.ping(), ref: "probe" });

export const browserClock = {
  now: () => Date.now(),
  after: (seconds, act) => {
    const timer = setTimeout(act, seconds * 1000);
    return () => clearTimeout(timer);
  },
};

/**
 * @typedef {object} Link how the page stands with the server
 * @property {string} stage the session's
 * @property {number} retryAt when the next attempt is, or was, made, in milliseconds since 1970; 0: none has failed since all was well
 */

export class Client {
  /** @type {Link} */
  link = { stage: "offline", retryAt: 0 };
  /** @type {Outbox} */
  outbox;
  people = new People();
  #account;
  #store;
  #on;
  #session;
  #connection;
  #version = 0; // of the list of conversations, as it was read last

  /**
   * @param {object} setup
   * @param {{user: string, device: string}} setup.account
   * @param {object} setup.credentials as for `Session`
   * @param {Map<string, string>} setup.cursors as `Store.load` gave them
   * @param {object[]} setup.items the outbox this device left
   * @param {import("./store.js").Store} setup.store
   * @param {string} setup.url of the WebSocket
   * @param {object} setup.on
   * @param {() => void} setup.on.change
   * @param {(token: string) => void} setup.on.welcome
   * @param {(error: import("./protocol.js").RequestError) => void} setup.on.refused the login was refused; the client has stopped
   * @param {(bye: {code: string, text: string}) => void} setup.on.ended the server sent this session away for good
   * @param {(message: object) => void} setup.on.arrived a message of somebody else came in just now
   */
  constructor({ account, credentials, cursors, items, store, url, on }) {
    this.#account = account;
    this.#store = store;
    this.#on = on;
    this.outbox = new Outbox(items);
    for (const partner of this.outbox.partners()) store.conversation(partner);
    const open = () => openSocket(url);
    this.#connection = new Connection({ open, clock: browserClock, random: Math.random, probe: PROBE, on: this.#linkEvents });
    this.#session = new Session({ account, credentials, cursors, outbox: this.outbox, ports: this.#ports });
  }

  get user() {
    return this.#account.user;
  }

  start() {
    this.#connection.start();
  }

  /** Closes the connection without a word; the server keeps the session's place. */
  stop() {
    this.#connection.stop();
    this.#session.lost();
  }

  signOut() {
    this.#session.logout();
    this.#connection.stop();
  }

  /** Something suggests that the connection is worth a try, or a look, now. */
  hurry() {
    this.#connection.hurry();
  }

  send(to, text) {
    this.#session.send(to, text);
  }

  retry(id) {
    this.#session.retry(id);
  }

  discard(id) {
    this.#session.discard(id);
  }

  typing(to, on) {
    this.#session.typing(to, on);
  }

  /** @param {"add" | "accept" | "decline" | "remove"} action what it leads to comes through the log */
  contact(action, user) {
    return this.#asked(requests.contact(action, user));
  }

  /** What this browser shows to contacts. */
  get show() {
    return localStorage.getItem(this.#showKey) ?? "online";
  }

  /** Shown from now on, also after a reload: whoever is invisible must not appear for a moment. */
  present(show) {
    localStorage.setItem(this.#showKey, show);
    return this.#asked(requests.presence(show));
  }

  get #showKey() {
    return `imserver/show/${this.user}/${this.#account.device}`;
  }

  async #asked(frame) {
    const isDone = await isReached(this.#session.ask(frame));
    this.#on.change();
    return isDone;
  }

  /** @returns {Promise<boolean>} false where the replica has no page and the server cannot be asked now */
  open(partner) {
    if (isGroup(partner)) this.#session.join(partner);
    return isReached(this.#store.open(partner, this.#history));
  }

  close(partner) {
    this.#store.close(partner, this.outbox.to(partner).length === 0);
  }

  /** @returns {Promise<boolean>} as for `open` */
  older(partner) {
    return isReached(this.#store.older(partner, this.#history));
  }

  markRead(partner) {
    const upto = this.#store.markRead(partner);
    if (upto) this.#session.read(partner, upto);
  }

  /** The replica has kept everything up to these positions. */
  kept(cursors) {
    this.#session.kept(cursors);
  }

  #history = (partner, before, limit) => this.#session.history(partner, before, limit);

  // ---- the session's ports ----

  #ports = {
    write: (frame) => this.#connection.send(encode(frame)),
    emit: (event) => this.#events[event.type](event),
    after: browserClock.after,
    now: browserClock.now,
    random: Math.random,
    newId: () => randomText(16),
  };

  #events = {
    stage: ({ stage }) => this.#staged(stage),
    welcome: ({ token, ping }) => this.#welcomed(token, ping),
    refused: ({ error }) => this.#refused(error),
    message: ({ message, live, was }) => this.#messageCame(message, live, was),
    amendment: ({ amendment }) => this.#store.amended(amendment),
    cursor: ({ log, at }) => this.#store.cursor(log, at),
    hole: ({ log, at }) => this.#store.hole(log, at),
    outbox: ({ item, gone }) => this.#store.outbox(item, gone),
    stale: () => this.#connection.renew(),
    later: ({ after }) => this.#later(after),
    bye: (bye) => this.#bye(bye),
    membership: ({ group }) => this.#store.membership(group),
    contact: ({ contact }) => this.#peopleChanged(() => this.people.changed(contact)),
    presence: (presence) => this.#peopleChanged(() => this.people.shows(presence)),
    typing: ({ from, to, on }) => this.#store.typing(isGroup(to) ? to : from, on, Date.now()),
    read: (event) => this.#marked(event),
    delivered: ({ by, mark }) => this.#store.marked(by, mark, "deliveredUpto"),
    conversations: () => this.#readConversations(),
    trouble: ({ code, text }) => console.warn(`imserver: the server says ${code}: ${text}`),
  };

  #staged(stage) {
    if (stage === "offline") this.people.disconnected();
    if (stage === "live") this.#readPeople();
    if (stage === "live") this.#readConversations();
    this.#show(stage === "live" ? { stage, retryAt: 0 } : { stage });
  }

  async #readPeople() {
    const frames = [];
    const isRead = await isReached(this.#pages(requests.contacts, "contacts", frames));
    if (isRead) this.#peopleChanged(() => this.people.read(frames.map(toContact).filter((contact) => contact !== null)));
    if (this.show !== "online") await this.#asked(requests.presence(this.show));
  }

  /** What this browser has missed of marks: all of it the first time, then what has changed. */
  async #readConversations() {
    const frames = [];
    const request = (after) => requests.conversations(after, this.#version);
    if (!(await isReached(this.#pages(request, "conversations", frames).then((version) => (this.#version = version))))) return;
    for (const standing of frames.map(toStanding)) if (standing) this.#store.stands(standing);
  }

  /** A list in pages, put into `frames`. @returns {Promise<number>} its version, as old as the first page */
  async #pages(request, field, frames) {
    let [after, version] = [null, null];
    do {
      const ok = await this.#patiently(request(after));
      frames.push(...(Array.isArray(ok[field]) ? ok[field] : []));
      version ??= ok.version ?? 0;
      after = ok.more === true ? ok.next : null;
    } while (after);
    return version;
  }

  /** A page that is asked for too soon behind the one before is asked for again when the server says. */
  async #patiently(frame) {
    try {
      return await this.#session.ask(frame);
    } catch (error) {
      if (error.code !== "rate-limited" || !error.retry) throw error;
      await new Promise((act) => setTimeout(act, error.retry * 1000));
      return this.#patiently(frame);
    }
  }

  #peopleChanged(change) {
    change();
    this.#on.change();
  }

  #welcomed(token, ping) {
    this.#connection.live(ping);
    this.#on.welcome(token);
  }

  #later(seconds) {
    this.#connection.comeBackAfter(seconds);
    this.#connection.renew();
  }

  #refused(error) {
    this.#connection.stop();
    this.#on.refused(error);
  }

  #bye({ code, text, reconnect, after }) {
    if (reconnect) return this.#connection.comeBackAfter(after);
    this.#connection.stop();
    return this.#on.ended({ code, text });
  }

  #messageCame(message, live, was) {
    if (was) return this.#store.moved(message, was);
    const isNews = this.#store.message(message);
    return isNews && live && message.from !== this.user && this.#on.arrived(message);
  }

  #marked({ by, with: partner, upto, mark }) {
    if (by === this.user) this.#store.readElsewhere(partner, upto);
    else if (mark) this.#store.marked(by, mark, "seenUpto");
  }

  // ---- the connection's events ----

  #linkEvents = {
    opened: () => this.#session.opened(),
    text: (text) => this.#received(text),
    lost: () => this.#session.lost(),
    waiting: (until) => this.#show({ retryAt: until }),
  };

  #received(text) {
    try {
      this.#session.received(decode(text));
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      console.warn(`imserver: ${error.message}`);
      this.#connection.renew();
    }
  }

  #show(changes) {
    this.link = { ...this.link, ...changes };
    this.#on.change();
  }
}

/** Whether what needs the server was answered; other errors are somebody's mistake and go on. */
async function isReached(loading) {
  try {
    await loading;
    return true;
  } catch (error) {
    if (error instanceof Lost || error instanceof RequestError) return false;
    throw error;
  }
}

function openSocket(url) {
  return new WebSocket(url, SUBPROTOCOL);
}
