/**
 * What the page shows: the conversations of one user, as far as they are in memory, over the replica that keeps them.
 *
 * Of the open conversation the messages down to where a person has scrolled are in memory, of every other only the last. The store is
 * told what the session passes on; it never asks what the server thinks, except for pages of history that the replica does not hold.
 */

import { nameOf, Waiting } from "./amendments.js";
import { Keeping } from "./keeping.js";
import { OWN_LOG, comparePositions, hasExpired, isGroup, laterPosition, partnerOf } from "./protocol.js";
import { mergeRecords, newRecord } from "./record.js";
import { insert, isForReading, put, remove } from "./timeline.js";

export const PAGE_MESSAGES = 50;

/** What has vanished is looked for so often at most. */
export const EXPIRY_MS = 1000;

/** A typing notice holds for so long unless it is renewed. */
export const TYPING_SECONDS = 6;

/**
 * @typedef {object} Conversation
 * @property {import("./record.js").Record} record
 * @property {object | null} last the newest message
 * @property {number} unread
 * @property {object[]} messages the newest ones down to some point, where the conversation is open; else empty
 * @property {boolean} open
 * @property {boolean} loading an older page is on its way
 * @property {boolean} atStart nothing older is to be had, here or from the server
 * @property {number} typingUntil milliseconds since 1970
 */

export class Store {
  /** @type {Map<string, Conversation>} */
  conversations = new Map();
  #me;
  #replica;
  #keeping;
  #waiting = new Waiting();
  #onChange;
  #nextExpiry = 0;

  /**
   * @param {object} setup
   * @param {string} setup.me
   * @param {import("./replica.js").Replica} setup.replica
   * @param {() => void} setup.onChange something that is shown has changed
   * @param {(cursors: Map<string, string>) => void} setup.onKept
   * @param {(error: Error) => void} setup.onBroken nothing is kept from now on
   */
  constructor({ me, replica, onChange, onKept, onBroken }) {
    this.#me = me;
    this.#replica = replica;
    this.#keeping = new Keeping(replica, onKept, onBroken);
    this.#onChange = onChange;
  }

  /** Reads back what was kept. @returns {Promise<{cursors: Map<string, string>, outboxes: Map<string, object[]>}>} */
  async load() {
    const { cursors, conversations, outboxes } = await this.#replica.load();
    for (const { last, unread, ...record } of conversations) {
      this.conversations.set(record.with, { ...newConversation(record), last, unread });
    }
    this.#onChange();
    return { cursors, outboxes };
  }

  /** Outbox items from now on are those of this device. */
  useDevice(device) {
    this.#keeping.for(device);
  }

  /** The conversations, the one with the latest message first; those without one by name. @returns {Conversation[]} */
  get sorted() {
    return [...this.conversations.values()].sort(byLatest);
  }

  get unread() {
    return [...this.conversations.values()].reduce((sum, conversation) => sum + conversation.unread, 0);
  }

  // ---- what the session passes on ----

  /** @returns {boolean} false where the message was here already */
  message(message) {
    const partner = partnerOf(message, this.#me);
    const conversation = this.conversation(partner);
    const kept = this.#waiting.apply({ ...message, with: partner });
    if (!this.#isNew(conversation, kept)) return false;
    this.#keeping.message(kept);
    this.#count(conversation, kept);
    this.#onChange();
    return true;
  }

  /**
   * A message was edited or deleted, or somebody has reacted to it. Where it is not here, this waits for it as long as the page lives: an
   * older page of the history may bring it.
   *
   * @param {import("./amendments.js").Amendment} amendment
   */
  async amended(amendment) {
    const partner = partnerOf(amendment, this.#me);
    const conversation = this.conversations.get(partner);
    const isMeant = (each) => each && nameOf(each) === nameOf(amendment.of);
    this.#waiting.add(amendment);
    if (!conversation) return;
    const message = [...conversation.messages, conversation.last].find(isMeant) ?? (await this.#kept(partner, isMeant));
    if (!message) return;
    // All of them: another one may have come while the replica was asked.
    const now = this.#waiting.apply(message);
    this.#keeping.message(now);
    if (conversation.messages.some(({ at }) => at === now.at)) put(conversation.messages, now);
    if (conversation.last?.at === now.at) conversation.last = now;
    if (now.deleted && !message.deleted && conversation.unread > 0) await this.#recount(conversation);
    this.#onChange();
  }

  /** The user was invited to, joined or left a group: its conversation is there. */
  membership(group) {
    this.conversation(group);
    this.#onChange();
  }

  /**
   * The message stood at `was`, and the log has lost that: it takes its new place, and is no news. After a reload it counts as unread: to
   * move the mark along would count others as read.
   */
  moved(message, was) {
    const conversation = this.conversation(partnerOf(message, this.#me));
    const kept = { ...message, with: conversation.record.with };
    this.#keeping.moved(kept, was);
    if (remove(conversation.messages, was)) insert(conversation.messages, kept);
    if (!conversation.last || comparePositions(kept.at, conversation.last.at) > 0) conversation.last = kept;
    this.#onChange();
  }

  cursor(log, at) {
    this.#keeping.cursor(log, at);
  }

  /** Of this log nothing before `at` can be had any more: what is here from before is separated from it by a hole. */
  hole(log, at) {
    for (const conversation of this.conversations.values()) {
      const { record } = conversation;
      const follows = isGroup(record.with) ? record.with === log : log === OWN_LOG;
      if (follows && conversation.last) this.#breakAt(conversation, at);
    }
  }

  /** @param {object} item @param {boolean} gone */
  outbox(item, gone) {
    this.conversation(item.to);
    this.#keeping.outbox(item.id, gone ? null : item);
    this.#onChange();
  }

  typing(partner, on, now) {
    const conversation = this.conversations.get(partner);
    if (!conversation) return;
    conversation.typingUntil = on ? now + TYPING_SECONDS * 1000 : 0;
    this.#onChange();
  }

  /** Another of the user's devices has seen everything of a conversation up to there. */
  readElsewhere(partner, upto) {
    const conversation = this.conversations.get(partner);
    if (conversation && upto) this.#read(conversation, upto);
  }

  /**
   * The other one has got, or seen, what we sent up to this message.
   * @param {import("./protocol.js").Mark} mark without a device: whatever device it is from
   * @param {"deliveredUpto" | "seenUpto"} name
   */
  async marked(partner, { device, id }, name) {
    const conversation = this.conversations.get(partner);
    if (!conversation) return;
    const isMeant = (each) => each?.id === id && each.from === this.#me && (!device || each.device === device);
    const message = [...conversation.messages, conversation.last].find(isMeant) ?? (await this.#kept(partner, isMeant));
    if (message) this.#remember(conversation, { [name]: laterPosition(conversation.record[name], message.at) });
  }

  /** How a conversation stands on the server: what this browser was not there to hear. @param {import("./protocol.js").Standing} standing */
  stands({ with: partner, read, readBy, delivered }) {
    this.readElsewhere(partner, read);
    if (delivered) this.marked(partner, delivered, "deliveredUpto");
    if (readBy) this.marked(partner, readBy, "seenUpto");
  }

  // ---- what a person does ----

  /** The conversation with this partner, made where there is none. @returns {Conversation} */
  conversation(partner) {
    if (!this.conversations.has(partner)) this.conversations.set(partner, newConversation(newRecord(partner)));
    return this.conversations.get(partner);
  }

  /** Brings the newest page of a conversation into memory. @param history see `older` */
  async open(partner, history) {
    const conversation = this.conversation(partner);
    // What came while it was closed may still be on its way into the replica, from which the page is read.
    Object.assign(conversation, { open: true, loading: true });
    await this.#keeping.flush();
    conversation.loading = false;
    await this.older(partner, history);
  }

  /** Lets go of a conversation's messages. @param {boolean} forget whether one without any messages was only looked at */
  close(partner, forget) {
    const conversation = this.conversations.get(partner);
    if (!conversation) return;
    Object.assign(conversation, { open: false, messages: [], atStart: false });
    if (forget && !conversation.last) this.conversations.delete(partner);
    this.#onChange();
  }

  /**
   * Brings the page before what is in memory into memory: from the replica, else from the server.
   *
   * @param {string} partner
   * @param {(partner: string, before: string | null, limit: number) => Promise<object>} history as `Session.history`
   * @throws {import("./asking.js").Lost} @throws {import("./protocol.js").RequestError} where asking again may help; nothing has changed
   */
  async older(partner, history) {
    const conversation = this.conversations.get(partner);
    if (!conversation?.open || conversation.loading || conversation.atStart) return;
    conversation.loading = true;
    this.#onChange();
    try {
      await this.#loadOlder(conversation, history);
    } catch (error) {
      if (error.passing !== false) throw error;
      conversation.atStart = true;
    } finally {
      conversation.loading = false;
      this.#onChange();
    }
  }

  /** Everything in this conversation has been seen. @returns {string | null} the position up to which, where that is news */
  markRead(partner) {
    const conversation = this.conversations.get(partner);
    if (!conversation?.last || conversation.unread === 0) return null;
    this.#read(conversation, conversation.last.at);
    return conversation.last.at;
  }

  /** Forgets what has vanished. To be called now and then, and before anything is shown. @param {number} now milliseconds since 1970 */
  async expire(now) {
    if (now < this.#nextExpiry) return;
    this.#nextExpiry = now + EXPIRY_MS;
    await this.#keeping.flush();
    const partners = await this.#replica.expire(now); // another tab may have done so before, for what is in memory here
    for (const { record, messages, last } of this.conversations.values()) {
      if ([...messages, last].some((message) => hasExpired(message, now))) partners.add(record.with);
    }
    for (const partner of partners) await this.#forgetExpired(this.conversation(partner), now);
    if (partners.size > 0) this.#onChange();
  }

  /** Resolves when all that was passed on has been kept. */
  flush() {
    return this.#keeping.flush();
  }

  // ---- parts ----

  /**
   * The session passes on each entry once, but for our own messages: a reply stands for one first, and after a new login its entry comes
   * from the log. Those count for nothing here, so that to keep one twice does no harm.
   */
  #isNew(conversation, message) {
    return conversation.open ? insert(conversation.messages, message) : conversation.last?.at !== message.at;
  }

  #count(conversation, message) {
    const latest = !conversation.last || comparePositions(message.at, conversation.last.at) > 0;
    if (latest) conversation.last = message;
    if (message.from === this.#me) this.#read(conversation, message.at);
    else if (isForReading(message, this.#me) && !isRead(conversation, message)) conversation.unread += 1;
    if (message.from !== this.#me) conversation.typingUntil = 0;
    this.#keeping.record(conversation.record);
  }

  /** Who answers has read what came before: without this a new browser would call the whole past unread. */
  #read(conversation, upto) {
    const readUpto = laterPosition(conversation.record.readUpto, upto);
    const isNews = readUpto !== conversation.record.readUpto;
    if (conversation.last && comparePositions(readUpto, conversation.last.at) >= 0) conversation.unread = 0;
    this.#remember(conversation, { readUpto });
    if (isNews && conversation.unread > 0) this.#recount(conversation);
  }

  /** Some of it was read, elsewhere: how many are left only the replica knows, once it has all that has come. */
  async #recount(conversation) {
    const { record } = conversation;
    await this.#keeping.flush();
    const { last } = conversation;
    const unread = await this.#replica.unread(record.with, conversation.record.readUpto);
    if (conversation.last !== last) await this.#recount(conversation);
    else Object.assign(conversation, { unread });
    this.#onChange();
  }

  async #forgetExpired(conversation, now) {
    const { record } = conversation;
    conversation.messages = conversation.messages.filter((message) => !hasExpired(message, now));
    const [newest = null] = await this.#replica.page(record.with, { from: null, before: null, limit: 1 });
    if (hasExpired(conversation.last, now)) conversation.last = newest;
    await this.#recount(conversation);
  }

  async #kept(partner, isMeant) {
    await this.#keeping.flush();
    return this.#replica.find(partner, isMeant);
  }

  #remember(conversation, changes) {
    conversation.record = mergeRecords(conversation.record, { ...conversation.record, ...changes });
    this.#keeping.record(conversation.record);
    this.#onChange();
  }

  /** What is in memory lies before the hole; it comes back once history has led there. */
  #breakAt(conversation, at) {
    Object.assign(conversation, { messages: [], atStart: false });
    this.#remember(conversation, { floor: at, complete: false });
  }

  async #loadOlder(conversation, history) {
    const { record } = conversation;
    const before = conversation.messages[0]?.at ?? null;
    const kept = await this.#replica.page(record.with, { from: record.floor, before, limit: PAGE_MESSAGES });
    if (kept.length > 0) this.#show(conversation, kept);
    else if (record.complete) conversation.atStart = true;
    else await this.#loadFromServer(conversation, record.floor ?? before, history);
  }

  async #loadFromServer(conversation, before, history) {
    const partner = conversation.record.with;
    const { messages, amendments = [], more, next } = await history(partner, before, PAGE_MESSAGES);
    for (const amendment of amendments) this.#waiting.add(amendment);
    const page = messages.map((message) => this.#waiting.apply({ ...message, with: partner }));
    for (const message of page) this.#keeping.message(message);
    // A server that leads nowhere is not asked for ever.
    const leadsOn = more && (before === null || comparePositions(next, before) < 0);
    this.#remember(conversation, leadsOn ? { floor: next } : { floor: null, complete: true });
    this.#show(conversation, page);
    // What this browser kept and the server no longer does, if anything, comes with the next page.
    if (page.length === 0 && !leadsOn) await this.#loadOlder(conversation, history);
  }

  #show(conversation, page) {
    if (!conversation.open) return;
    for (const message of page) insert(conversation.messages, message);
    const newest = conversation.messages.at(-1) ?? null;
    if (newest && !conversation.last) conversation.last = newest;
  }
}

/** @returns {Conversation} */
function newConversation(record) {
  return { record, last: null, unread: 0, messages: [], open: false, loading: false, atStart: false, typingUntil: 0 };
}

function isRead({ record }, message) {
  return record.readUpto !== null && comparePositions(message.at, record.readUpto) <= 0;
}

function byLatest(a, b) {
  if (a.last && b.last) return comparePositions(b.last.at, a.last.at);
  if (a.last || b.last) return a.last ? -1 : 1;
  return a.record.with < b.record.with ? -1 : 1;
}
