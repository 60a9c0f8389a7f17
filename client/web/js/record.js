/**
 * What is remembered of a conversation besides its messages.
 *
 * The three marks are monotonic, so whichever tab writes last, the later position stays.
 */

import { laterPosition } from "./protocol.js";

/**
 * @typedef {object} Record
 * @property {string} with the other user, or the group
 * @property {string | null} readUpto a person here has seen everything up to there
 * @property {string | null} deliveredUpto the other's devices have everything of ours up to there
 * @property {string | null} seenUpto the other has seen everything of ours up to there
 * @property {string | null} floor from there on the kept messages have no hole; null: no hole is known
 * @property {boolean} complete the server has said that it keeps nothing older than what is kept here
 */

/** @returns {Record} */
export function newRecord(partner) {
  return { with: partner, readUpto: null, deliveredUpto: null, seenUpto: null, floor: null, complete: false };
}

/** @param {Record | undefined} kept @param {Record} record @returns {Record} */
export function mergeRecords(kept, record) {
  if (!kept) return { ...record };
  return {
    ...record,
    readUpto: laterPosition(kept.readUpto, record.readUpto),
    deliveredUpto: laterPosition(kept.deliveredUpto, record.deliveredUpto),
    seenUpto: laterPosition(kept.seenUpto, record.seenUpto),
  };
}
