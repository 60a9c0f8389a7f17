/** Lists of messages of one conversation in the server's order: plain arrays, sorted by position, each position once. */

import { comparePositions } from "./protocol.js";

/** @returns {number} the index of the first message at or after `position` */
export function indexOf(messages, position) {
  let [low, high] = [0, messages.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (comparePositions(messages[middle].at, position) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Puts the message in its place. @returns {boolean} false where its position is there already, and nothing changed */
export function insert(messages, message) {
  const index = indexOf(messages, message.at);
  if (messages[index]?.at === message.at) return false;
  messages.splice(index, 0, message);
  return true;
}

/** As `insert`, but what is at its position gives way to it. */
export function put(messages, message) {
  const index = indexOf(messages, message.at);
  messages.splice(index, messages[index]?.at === message.at ? 1 : 0, message);
}

/** @returns {boolean} whether there was a message at this position; it is gone */
export function remove(messages, position) {
  const index = indexOf(messages, position);
  if (messages[index]?.at !== position) return false;
  messages.splice(index, 1);
  return true;
}

/** The `limit` newest messages at or after `from` and before `before`; either may be null. */
export function pageOf(messages, { from, before, limit }) {
  const end = before ? indexOf(messages, before) : messages.length;
  const start = from ? indexOf(messages, from) : 0;
  return messages.slice(Math.max(start, end - limit), Math.max(start, end));
}

/** Whether a message waits to be read by `me`, if it stands behind what was read: nobody reads what is deleted. */
export function isForReading(message, me) {
  return message.from !== me && !message.deleted;
}

/** How many messages of others stand after `upto` (null: all do). */
export function countUnread(messages, upto, me) {
  return messages.filter((message) => isForReading(message, me) && (!upto || comparePositions(message.at, upto) > 0)).length;
}
