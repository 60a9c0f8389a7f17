/**
 * The replica for as long as the page lives, with the interface of `replica.js`: where a browser keeps nothing for this page (some private
 * windows), and where there is no browser. After a reload the logs are read from the server again.
 */

import { hasExpired, laterPosition } from "./protocol.js";
import { mergeRecords } from "./record.js";
import { countUnread, pageOf, put, remove } from "./timeline.js";

export class MemoryReplica {
  persistent = false;
  #me;
  #messages = new Map();
  #records = new Map();
  #cursors = new Map();
  #outboxes = new Map();

  constructor(user) {
    this.#me = user;
  }

  async load() {
    const conversations = [...this.#records.values()].map((record) => this.#summary(record));
    const outboxes = new Map([...this.#outboxes].map(([device, items]) => [device, [...items.values()]]));
    return { cursors: new Map(this.#cursors), conversations, outboxes };
  }

  async page(partner, range) {
    return pageOf(this.#of(partner), range);
  }

  async find(partner, isMeant) {
    return this.#of(partner).findLast(isMeant) ?? null;
  }

  async unread(partner, upto) {
    return countUnread(this.#of(partner), upto, this.#me);
  }

  async write({ messages, gone = [], records, cursors, outbox, device }) {
    for (const message of messages) put(this.#of(message.with), message);
    for (const { with: partner, at } of gone) remove(this.#of(partner), at);
    for (const record of records.values()) this.#records.set(record.with, mergeRecords(this.#records.get(record.with), record));
    for (const [log, at] of cursors) this.#cursors.set(log, laterPosition(this.#cursors.get(log), at));
    for (const [id, item] of outbox) this.#keep(device, id, item);
  }

  async expire(now) {
    const partners = new Set();
    for (const [partner, messages] of this.#messages) {
      const left = messages.filter((message) => !hasExpired(message, now));
      if (left.length < messages.length) partners.add(partner);
      this.#messages.set(partner, left);
    }
    return partners;
  }

  async erase() {
    for (const kept of [this.#messages, this.#records, this.#cursors, this.#outboxes]) kept.clear();
  }

  close() {}

  #summary(record) {
    const messages = this.#of(record.with);
    return { ...record, last: messages.at(-1) ?? null, unread: countUnread(messages, record.readUpto, this.#me) };
  }

  #of(partner) {
    if (!this.#messages.has(partner)) this.#messages.set(partner, []);
    return this.#messages.get(partner);
  }

  #keep(device, id, item) {
    if (!this.#outboxes.has(device)) this.#outboxes.set(device, new Map());
    if (item) this.#outboxes.get(device).set(id, { ...item });
    else this.#outboxes.get(device).delete(id);
  }
}
