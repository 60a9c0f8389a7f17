/** The lines of an open conversation, as data: what stands between its messages, and how each of them looks. Pure. */

import { bodyOf, nameOf, reactionsOf } from "../amendments.js";
import { comparePositions, hasExpired, isGroup, timeOf } from "../protocol.js";
import { bodyText, dayLabel, isSameDay, lineOf, whyNotSent } from "./format.js";

/** Messages of one sender so close together stand as one block. */
const BLOCK_MS = 5 * 60_000;

/**
 * @typedef {{key: string, kind: "day", text: string}
 *   | {key: string, kind: "message", own: boolean, author: string, opens: boolean, text: string, edited: boolean, vanishes: boolean, quote: string,
 *      reactions: string, time: number,
 *      state: "" | "sending" | "sent" | "delivered" | "seen" | "failed", id: string, why: string}} Row
 * `author` is empty where it goes without saying; `opens`: the first message of a block; `why`: only of a failed one
 */

/**
 * @param {import("../store.js").Conversation} conversation
 * @param {import("../outbox.js").Item[]} items what is still to be sent to this partner
 * @param {{me: string, device: string, now: number}} reader
 * @returns {Row[]}
 */
export function rowsOf(conversation, items, reader) {
  const shown = conversation.messages.filter((message) => !message.deleted && !hasExpired(message, reader.now));
  const byName = new Map(shown.map((message) => [nameOf(message), message]));
  const stored = shown.map((message) => storedRow(message, byName, conversation.record, reader));
  const unsent = items.map((item) => unsentRow(item));
  return withDays(inBlocks([...stored, ...unsent]), reader.now);
}

function storedRow(message, byName, record, { me, device }) {
  const own = message.from === me;
  return {
    kind: "message",
    // A message of ours keeps the element it had while it was being sent.
    key: own && message.device === device ? `out ${message.id}` : `at ${message.log} ${message.at}`,
    own,
    sender: message.from,
    author: !own && isGroup(record.with) ? message.from : "",
    text: bodyText(bodyOf(message)),
    edited: Boolean(message.edited),
    vanishes: message.expires !== undefined,
    quote: message.reply ? quoteOf(byName.get(nameOf(message.reply))) : "",
    reactions: reactionsOf(message),
    time: timeOf(message.at),
    state: own ? stateOf(message, record) : "",
    id: message.id,
    why: "",
  };
}

/** What is answered, in a line; that it is not here, or not any more, shows as well. */
function quoteOf(message) {
  return message ? lineOf(bodyOf(message)) : "…";
}

function stateOf({ at }, { seenUpto, deliveredUpto }) {
  if (seenUpto && comparePositions(at, seenUpto) <= 0) return "seen";
  return deliveredUpto && comparePositions(at, deliveredUpto) <= 0 ? "delivered" : "sent";
}

function unsentRow(item) {
  const failed = item.state === "failed";
  return {
    kind: "message",
    key: `out ${item.id}`,
    own: true,
    sender: null,
    author: "",
    text: bodyText(item.body),
    edited: false,
    vanishes: false,
    quote: "",
    reactions: "",
    time: item.time,
    state: failed ? "failed" : "sending",
    id: item.id,
    why: failed ? whyNotSent(item) : "",
  };
}

function inBlocks(rows) {
  return rows.map((row, index) => {
    const before = rows[index - 1];
    const joins = before && before.own === row.own && (row.own || before.sender === row.sender) && row.time - before.time < BLOCK_MS;
    return { ...row, opens: !joins };
  });
}

function withDays(rows, now) {
  return rows.flatMap((row, index) => {
    const before = rows[index - 1];
    if (before && isSameDay(before.time, row.time)) return [row];
    return [{ kind: "day", key: `day ${row.key}`, text: dayLabel(row.time, now) }, { ...row, opens: true }];
  });
}
