/**
 * The replica of a user's logs in this browser's IndexedDB: one database per user, shared by all tabs.
 *
 * Sharing is safe because everything written is true whichever tab writes it: a message belongs at its position, a cursor says that
 * everything before it has been kept, and one write is one transaction, so a cursor is never kept without what it stands for. A new tab
 * therefore starts reading where the last one stopped, under whatever device name. Only the outbox is a device's own.
 *
 * A batch is `{messages: Message[], gone: {with, at}[], records: Map<partner, Record>, cursors: Map<log, position>,
 * outbox: Map<id, Item | null>, device}`; a message carries `with`, the conversation it belongs to; nothing stands any more where something
 * is `gone`; a null item leaves the outbox.
 */

import { comparePositions, laterPosition, timeOf } from "./protocol.js";
import { mergeRecords } from "./record.js";
import { isForReading } from "./timeline.js";

const VERSION = 2; // 1 had no `expiring`: when a message vanishes, whose it is, and where it stands
const STORES = ["messages", "records", "cursors", "outbox", "expiring"];

/** More unread messages than this need not be counted exactly. */
export const MOST_UNREAD = 100;

/** So many messages back one is looked for. */
export const MOST_LOOKED_AT = 1000;

/** @param {string} user @returns {Promise<Replica>} @throws {DOMException} where the browser keeps nothing for this page */
export async function openReplica(user) {
  const opening = indexedDB.open(`imserver/${user}`, VERSION);
  opening.onupgradeneeded = () => {
    const { objectStoreNames } = opening.result;
    for (const name of STORES) if (!objectStoreNames.contains(name)) opening.result.createObjectStore(name);
  };
  return new Replica(await resultOf(opening), user);
}

export class Replica {
  /** Whether what is written here outlives the page. */
  persistent = true;
  #db;
  #me;

  constructor(db, user) {
    this.#db = db;
    this.#me = user;
    // Another tab wants to change or delete the database: it must not wait for this one.
    db.onversionchange = () => db.close();
  }

  /** @returns {Promise<{cursors: Map<string, string>, conversations: object[], outboxes: Map<string, object[]>}>} all but the messages */
  async load() {
    const read = this.#db.transaction(STORES, "readonly");
    const [cursors, records, outboxes] = await Promise.all([cursorsIn(read), allIn(read, "records"), outboxesIn(read)]);
    const conversations = await Promise.all(records.map((record) => this.#summary(read, record)));
    return { cursors, conversations, outboxes };
  }

  /** The `limit` newest messages of a conversation at or after `from` and before `before` (either may be null), oldest first. */
  async page(partner, { from, before, limit }) {
    // An empty range is an error to IndexedDB.
    if (from && before && comparePositions(from, before) >= 0) return [];
    const read = this.#db.transaction("messages", "readonly");
    const range = IDBKeyRange.bound(keyOf(partner, from, FIRST), keyOf(partner, before, LAST), false, true);
    const messages = [];
    await walkBack(read, range, (message) => messages.push(message) < limit);
    return messages.reverse();
  }

  /** The newest message of a conversation that `isMeant`, among its last `MOST_LOOKED_AT`; null where none is. */
  async find(partner, isMeant) {
    let [found, looked] = [null, 0];
    await walkBack(this.#db.transaction("messages", "readonly"), behind(partner, null), (message) => {
      if (isMeant(message)) found = message;
      looked += 1;
      return !found && looked < MOST_LOOKED_AT;
    });
    return found;
  }

  /** How many messages of others stand after `upto` (null: all do), counted to `MOST_UNREAD`. */
  async unread(partner, upto) {
    return this.#countUnread(this.#db.transaction("messages", "readonly"), partner, upto);
  }

  /** Keeps a batch, all of it or nothing. @throws {DOMException} for instance where the disk is full */
  async write({ messages, gone = [], records, cursors, outbox, device }) {
    const write = this.#db.transaction(STORES, "readwrite");
    const done = completionOf(write);
    for (const message of messages) {
      write.objectStore("messages").put(message, keyOf(message.with, message.at));
      if (message.expires !== undefined) write.objectStore("expiring").put(true, [message.expires, message.with, message.at]);
    }
    for (const { with: partner, at } of gone) write.objectStore("messages").delete(keyOf(partner, at));
    for (const record of records.values()) change(write.objectStore("records"), record.with, (kept) => mergeRecords(kept, record));
    for (const [log, at] of cursors) change(write.objectStore("cursors"), log, (kept) => laterPosition(kept, at));
    for (const [id, item] of outbox) putOrDelete(write.objectStore("outbox"), [device, id], item && { ...item, device });
    await done;
  }

  /** Forgets what has vanished. @param {number} now milliseconds since 1970 @returns {Promise<Set<string>>} in which conversations */
  async expire(now) {
    const write = this.#db.transaction(["messages", "expiring"], "readwrite");
    const done = completionOf(write);
    const partners = new Set();
    const due = IDBKeyRange.upperBound([Math.floor(now / 1000) + 1], true);
    const request = write.objectStore("expiring").openCursor(due);
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor) return;
      const [, partner, at] = cursor.key;
      partners.add(partner);
      write.objectStore("messages").delete(keyOf(partner, at));
      cursor.delete();
      cursor.continue();
    };
    await done;
    return partners;
  }

  /** Forgets everything; the replica stays usable. */
  async erase() {
    const write = this.#db.transaction(STORES, "readwrite");
    for (const name of STORES) write.objectStore(name).clear();
    await completionOf(write);
  }

  close() {
    this.#db.close();
  }

  async #summary(read, record) {
    let last = null;
    await walkBack(read, behind(record.with, null), (message) => ((last = message), false));
    return { ...record, last, unread: await this.#countUnread(read, record.with, record.readUpto) };
  }

  async #countUnread(read, partner, upto) {
    let unread = 0;
    await walkBack(read, behind(partner, upto), (message) => (unread += Number(isForReading(message, this.#me))) < MOST_UNREAD);
    return unread;
  }
}

// ---- keys ------------------------------------------------------------------------------------------------------------------------

const FIRST = [-1, ""];
const LAST = [Infinity, ""];

/** All messages of a conversation behind a position; null: all of them. */
function behind(partner, from) {
  return IDBKeyRange.bound(keyOf(partner, from, FIRST), keyOf(partner, null, LAST), Boolean(from));
}

/** A key that sorts as the server does: a counter without leading zeros is ordered by its length, then by its digits. */
function keyOf(partner, position, otherwise) {
  if (!position) return [partner, ...otherwise];
  const counter = position.slice(position.indexOf("-") + 1);
  return [partner, timeOf(position), `${String(counter.length).padStart(2, "0")}:${counter}`];
}

// ---- IndexedDB's events as promises ----------------------------------------------------------------------------------------------

function resultOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new DOMException("another tab holds an older version of the database", "AbortError"));
  });
}

function completionOf(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}

/** Calls `keep` with each message of the range, newest first, until it returns false. */
function walkBack(transaction, range, keep) {
  const request = transaction.objectStore("messages").openCursor(range, "prev");
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (cursor && keep(cursor.value)) cursor.continue();
      else resolve();
    };
  });
}

function change(store, key, changed) {
  const request = store.get(key);
  request.onsuccess = () => store.put(changed(request.result), key);
}

function putOrDelete(store, key, value) {
  if (value) store.put(value, key);
  else store.delete(key);
}

// ---- reading it back -------------------------------------------------------------------------------------------------------------

function allIn(transaction, name) {
  return resultOf(transaction.objectStore(name).getAll());
}

async function cursorsIn(transaction) {
  const store = transaction.objectStore("cursors");
  const [logs, positions] = await Promise.all([resultOf(store.getAllKeys()), resultOf(store.getAll())]);
  return new Map(logs.map((log, index) => [log, positions[index]]));
}

async function outboxesIn(transaction) {
  const outboxes = new Map();
  for (const { device, ...item } of await allIn(transaction, "outbox")) {
    if (!outboxes.has(device)) outboxes.set(device, []);
    outboxes.get(device).push(item);
  }
  return outboxes;
}
