/**
 * The native protocol, version 1, as pure functions: text to frames and back, requests, positions, names.
 *
 * Nothing here touches the page, a socket or a clock, and nothing here remembers anything. Fields and events this client does not know
 * are passed over: a newer server may send them.
 */

export const SUBPROTOCOL = "im.v1";

/** The position before everything: `prev` of the first entry of a log. */
export const START = "0-0";

/** The name under which cursors of the user's own log are kept; a group's log goes by the group's name. */
export const OWN_LOG = "";

/** Codes after which the same request, with the same id, may succeed later. */
const PASSING = new Set(["rate-limited", "overloaded", "unavailable"]);

const POSITION = /^\d+-\d+$/;
const USER = /^[a-z0-9][a-z0-9._-]{0,63}$/;
// What XML 1.0 cannot carry, and the protocol therefore refuses in any text. With the `u` flag a surrogate matches only when it is alone.
const UNCARRIED = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\uD800-\uDFFF\uFFFE\uFFFF]/gu;

/** A frame this client cannot read: not JSON, or not an object. */
export class FrameError extends Error {}

/** A name a person typed that cannot be a user or a group; the message says what is allowed. */
export class NameError extends Error {}

// ---- frames ----------------------------------------------------------------------------------------------------------------------

/** @param {object} frame @returns {string} the text of one WebSocket message */
export function encode(frame) {
  return JSON.stringify(frame);
}

/** @param {string} text @returns {number} the bytes `text` takes as UTF-8: the unit of `max_frame` */
export function sizeOf(text) {
  return new TextEncoder().encode(text).length;
}

/**
 * Reads one frame and says which kind it is:
 *
 * - `{kind: "ok", ref, ok}` and `{kind: "err", ref, error}`: the answer to the request with that `ref`;
 * - `{kind: "entry", log, at, prev, frame}`: an entry of a log, whatever its event is;
 * - `{kind: "event", name, frame}`: everything else the server says unasked;
 * - `{kind: "unknown"}`: well formed, but nothing this version speaks of.
 *
 * @param {string} text
 * @throws {FrameError}
 */
export function decode(text) {
  const frame = parse(text);
  if (frame.re !== undefined) return decodeReply(frame);
  if (typeof frame.ev !== "string") return { kind: "unknown" };
  if (isPosition(frame.at) && isPosition(frame.prev)) return decodeEntry(frame);
  return hasFields(frame, EVENT_FIELDS.get(frame.ev)) ? { kind: "event", name: frame.ev, frame } : { kind: "unknown" };
}

function parse(text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    throw new FrameError("the server sent a frame that is not JSON");
  }
  if (!isObject(frame)) throw new FrameError("the server sent a frame that is not an object");
  return frame;
}

function decodeReply(frame) {
  if (isObject(frame.ok)) return { kind: "ok", ref: frame.re, ok: frame.ok };
  if (isObject(frame.err)) return { kind: "err", ref: frame.re, error: toError(frame.err) };
  return { kind: "unknown" };
}

function decodeEntry(frame) {
  const log = isText(frame.log) ? frame.log : OWN_LOG;
  return { kind: "entry", log, at: frame.at, prev: frame.prev, frame };
}

/** What an event must carry before it is believed. An event not listed here is not known to this client. */
const EVENT_FIELDS = new Map([
  ["synced", { at: isPosition }],
  ["truncated", { at: isPosition }],
  ["regressed", { at: isPosition }],
  ["resend", { seconds: Number.isFinite }],
  ["bye", { code: isText }],
  ["error", { code: isText }],
  ["ping", {}],
  ["presence", { user: isText, show: isText }],
  ["typing", { from: isText, to: isText }],
  ["read", { by: isText, with: isText }],
  ["delivered", { by: isText, with: isText, id: isText }],
  ["conversations", {}],
]);

function hasFields(frame, fields) {
  return fields !== undefined && Object.entries(fields).every(([name, valid]) => valid(frame[name]));
}

// ---- requests --------------------------------------------------------------------------------------------------------------------

/** One function per request: what stands in the frame besides `ref`. */
export const requests = {
  register: (user, password) => ({ op: "register", user, password }),
  login: (device, secret, since) => ({ op: "login", ...secret, device, since, resend: true }),
  send: (id, to, body, again) => (again ? { op: "send", id, to, body, again } : { op: "send", id, to, body }),
  resend: () => ({ op: "resend" }),
  ack: (log, upto) => (log === OWN_LOG ? { op: "ack", upto } : { op: "ack", upto, log }),
  history: (partner, before, limit) => ({ op: "history", with: partner, ...(before ? { before } : {}), limit }),
  join: (group) => ({ op: "group.join", group }),
  read: (partner, upto) => ({ op: "read", with: partner, upto }),
  typing: (to, on) => ({ op: "typing", to, on }),
  contacts: (after) => ({ op: "contacts", limit: 500, ...(after ? { after } : {}) }),
  conversations: (after, since) => ({ op: "conversations", since, limit: 500, ...(after ? { after } : {}) }),
  /** @param {"add" | "accept" | "decline" | "remove"} action */
  contact: (action, user) => ({ op: `contact.${action}`, user }),
  presence: (show) => ({ op: "presence", show }),
  ping: () => ({ op: "ping" }),
  logout: () => ({ op: "logout" }),
};

/** `since` of a login: the cursor of the user's own log alone as a string, with groups an object. @param {Map<string, string>} cursors */
export function sinceOf(cursors) {
  const own = cursors.get(OWN_LOG) ?? START;
  const groups = [...cursors].filter(([log]) => log !== OWN_LOG);
  return groups.length === 0 ? own : { [OWN_LOG]: own, ...Object.fromEntries(groups) };
}

// ---- errors ----------------------------------------------------------------------------------------------------------------------

/** What the server answered instead of `ok`. `retry` is in seconds, or null where the server gave none. */
export class RequestError extends Error {
  constructor(code, text, retry = null) {
    super(text || code);
    this.code = code;
    this.retry = retry;
  }

  /** True where repeating the request, unchanged, may succeed. */
  get passing() {
    return PASSING.has(this.code);
  }
}

/** @param {object} err a frame's `err`, or the push `error` */
export function toError(err) {
  const retry = typeof err.retry === "number" && err.retry >= 0 ? err.retry : null;
  return new RequestError(isText(err.code) ? err.code : "bad-frame", isText(err.text) ? err.text : "", retry);
}

// ---- messages --------------------------------------------------------------------------------------------------------------------

/**
 * The message in an entry or in a history page; null where it is not one.
 *
 * @param {object} frame @param {string} log
 * @returns {{log: string, at: string, from: string, device: string, to: string, id: string, body: unknown, reply?: object,
 *   expires?: number} | null} `expires`: seconds since 1970
 */
export function toMessage(frame, log) {
  if (!isObject(frame) || !isPosition(frame.at) || !isText(frame.from) || !isText(frame.to)) return null;
  if (frame.ev !== undefined && frame.ev !== "msg") return null;
  const { at, from, to, body = "" } = frame;
  const message = { log, at, from, device: isText(frame.device) ? frame.device : "", to, id: isText(frame.id) ? frame.id : "", body };
  if (Number.isInteger(frame.expires)) message.expires = frame.expires;
  return isReference(frame.reply) ? { ...message, reply: frame.reply } : message;
}

/** Whether it has vanished. @param {{expires?: number} | null} message @param {number} now milliseconds since 1970 */
export function hasExpired(message, now) {
  return message?.expires !== undefined && message.expires * 1000 <= now;
}

const AMENDMENTS = new Set(["edit", "delete", "reaction"]);

/** What an entry, or a history page, says of a message; null where it says nothing. @returns {import("./amendments.js").Amendment | null} */
export function toAmendment(frame, log) {
  if (!isObject(frame) || !AMENDMENTS.has(frame.ev) || !isReference(frame.of) || !isReference(frame) || !isText(frame.to)) return null;
  const { ev: kind, of, from, to, device, id, body } = frame;
  const stamp = Number.isFinite(frame.stamp) ? frame.stamp : 0;
  return { log, kind, of, from, to, device, id, stamp, body, emoji: isText(frame.emoji) ? frame.emoji : null };
}

/** Names a message. */
function isReference(value) {
  return isObject(value) && isText(value.from) && isText(value.device) && isText(value.id);
}

/**
 * @typedef {{user: string, state: string, blocked: boolean, quiet: boolean, note: string | null, name: string | null}} Contact
 */

/** The contact in an entry or in the list; null where it is none. @returns {Contact | null} */
export function toContact(frame) {
  if (!isObject(frame) || !isText(frame.user) || !isText(frame.state)) return null;
  if (frame.ev !== undefined && frame.ev !== "contact") return null;
  const textOrNull = (value) => (isText(value) ? value : null);
  const { user, state, blocked = false, quiet = false } = frame;
  return { user, state, blocked: blocked === true, quiet: quiet === true, note: textOrNull(frame.note), name: textOrNull(frame.name) };
}

/**
 * @typedef {{device: string, id: string}} Mark names a message of ours
 * @typedef {{with: string, read: string | null, readBy: Mark | null, delivered: Mark | null}} Standing
 */

/** How a conversation stands, from the list; null where it is none. @returns {Standing | null} */
export function toStanding(frame) {
  if (!isObject(frame) || !isText(frame.with)) return null;
  const mark = (value) => (isObject(value) && isText(value.id) ? { device: isText(value.device) ? value.device : "", id: value.id } : null);
  return { with: frame.with, read: isPosition(frame.read) ? frame.read : null, readBy: mark(frame.read_by), delivered: mark(frame.delivered) };
}

/** The conversation a message belongs to, as `me` sees it: a group, or the other user. */
export function partnerOf(message, me) {
  if (message.log !== OWN_LOG) return message.log;
  return isGroup(message.to) || message.from === me ? message.to : message.from;
}

/** What an entry of the user's own log says about a group; null where it says nothing of that kind. @returns {{group: string, change: string, from: string} | null} */
export function toMembership(frame, log) {
  if (log !== OWN_LOG || frame.ev !== "group" || !isText(frame.group) || !isText(frame.change) || !isPosition(frame.from)) return null;
  return { group: frame.group, change: frame.change, from: frame.from };
}

// ---- positions -------------------------------------------------------------------------------------------------------------------

/**
 * Negative, zero or positive: the server's order of two positions of one log. Compared digit by digit, since a counter may exceed what
 * a JavaScript number holds exactly.
 */
export function comparePositions(a, b) {
  const [aTime, aCount] = a.split("-");
  const [bTime, bCount] = b.split("-");
  return compareDigits(aTime, bTime) || compareDigits(aCount, bCount);
}

function compareDigits(a, b) {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : Number(a > b);
}

/** The later of two positions, either of which may be missing. */
export function laterPosition(a, b) {
  if (!a || !b) return a || b || null;
  return comparePositions(a, b) >= 0 ? a : b;
}

/** The server's time at which an entry was stored, in milliseconds since 1970. */
export function timeOf(position) {
  return Number(position.slice(0, position.indexOf("-")));
}

// ---- names and text --------------------------------------------------------------------------------------------------------------

/** @param {string} typed @returns {string} the user it names @throws {NameError} */
export function parseUser(typed) {
  const user = typed.trim().toLowerCase();
  if (USER.test(user)) return user;
  throw new NameError("A name has 1 to 64 of a–z, 0–9, dot, underscore and hyphen, and starts with a letter or digit.");
}

/** @param {string} typed @returns {string} the user or group it names @throws {NameError} */
export function parsePartner(typed) {
  const name = typed.trim();
  return isGroup(name) ? `#${parseUser(name.slice(1))}` : parseUser(name);
}

export function isGroup(name) {
  return name.startsWith("#");
}

/** `typed` with what the protocol cannot carry replaced by the replacement character, as a reader of a damaged text would see it. */
export function cleanText(typed) {
  return typed.replace(UNCARRIED, "\uFFFD");
}

export function isPosition(value) {
  return typeof value === "string" && POSITION.test(value);
}

function isText(value) {
  return typeof value === "string";
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
