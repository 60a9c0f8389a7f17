/** How things are put into words: pure functions, `now` and times in milliseconds since 1970. */

import { bodyOf } from "../amendments.js";
import { isGroup } from "../protocol.js";

const DAY_MS = 86_400_000;
const HUES = 8;

// ---- time ------------------------------------------------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDate = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const fullDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const clockLabel = (time) => clock.format(time);
export const exactLabel = (time) => exact.format(time);

/** For a list: the clock today, the weekday this week, else the date. */
export function shortLabel(time, now) {
  const days = daysBetween(time, now);
  if (days <= 0) return clock.format(time);
  if (days === 1) return "Yesterday";
  return days < 7 ? weekday.format(time) : shortDate.format(time);
}

/** For the line between two days. */
export function dayLabel(time, now) {
  const days = daysBetween(time, now);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return new Date(time).getFullYear() === new Date(now).getFullYear() ? longDate.format(time) : fullDate.format(time);
}

export function isSameDay(a, b) {
  return midnightOf(a) === midnightOf(b);
}

/** Rounded, since a day on which the clocks change is not 24 hours long. */
function daysBetween(time, now) {
  return Math.round((midnightOf(now) - midnightOf(time)) / DAY_MS);
}

function midnightOf(time) {
  return new Date(time).setHours(0, 0, 0, 0);
}

/** @param {number} until @returns {string} "4 s": how long until then, at least one second */
export function waitLabel(until, now) {
  return `${Math.max(1, Math.ceil((until - now) / 1000))} s`;
}

// ---- messages --------------------------------------------------------------------------------------------------------------------

/** What can be read of a body: a text, the `text` of an object, else the object itself. */
export function bodyText(body) {
  if (typeof body === "string") return body;
  if (typeof body?.text === "string") return body.text;
  return JSON.stringify(body);
}

/** The beginning of a body on one line. */
export function lineOf(body) {
  return bodyText(body).slice(0, 200).replace(/\s+/g, " ");
}

/** What a list of conversations shows of the last message. */
export function previewOf(message, me) {
  const text = message.deleted ? "deleted" : lineOf(bodyOf(message));
  if (message.from === me) return `You: ${text}`;
  return isGroup(message.with) ? `${message.from}: ${text}` : text;
}

/** One of a few colours for a name, always the same. */
export function hueOf(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 65521, 7) % HUES;
}

export function initialOf(name) {
  return (isGroup(name) ? name[1] : name[0]).toUpperCase();
}

// ---- errors ----------------------------------------------------------------------------------------------------------------------

const NOT_SENT = new Map([
  ["not-found", (partner) => `there is no ${isGroup(partner) ? "group" : "user"} called ${partner}`],
  ["blocked", (partner) => `${partner} does not accept messages from you`],
  ["not-allowed", () => "you are not allowed to write here"],
  ["too-large", () => "the message is too long for this server"],
  ["conflict", () => "another message was sent under the same id"],
]);

/** Why the server refused a message for good. */
export function whyNotSent(item) {
  const known = NOT_SENT.get(item.code)?.(item.to);
  return `Not sent: ${known ?? (item.text || "the server refused it")} (${item.code}).`;
}

const NOT_SIGNED_IN = new Map([
  ["bad-credentials", "The name or the password is wrong."],
  ["expired-token", "Your last sign-in has expired. Please sign in again."],
  ["exists", "This name is taken. Choose another one, or sign in if it is yours."],
  ["not-allowed", "This server does not let you create an account here. Ask whoever runs it."],
  ["overloaded", "The server is busy. Please try again in a moment."],
  ["rate-limited", "Too many attempts. Please wait a little."],
  ["unavailable", "The server cannot reach its store just now. Please try again in a moment."],
]);

/** Why a login or a registration was refused. @param {{code: string, message: string}} error */
export function whyNotSignedIn(error) {
  return NOT_SIGNED_IN.get(error.code) ?? `The server says: ${error.message} (${error.code}).`;
}

const ENDED = new Map([
  ["replaced", "You are using imserver in another tab or window now."],
  ["revoked", "Your sign-in was withdrawn. Please sign in again."],
]);

/** Why the server ended a session for good. @param {{code: string, text: string}} bye */
export function whyEnded(bye) {
  return ENDED.get(bye.code) ?? `The server ended the session: ${bye.text || bye.code}.`;
}
