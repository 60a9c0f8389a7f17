import assert from "node:assert/strict";
import { test } from "node:test";

import { Lost } from "../../../client/web/js/asking.js";
import { MemoryReplica } from "../../../client/web/js/memory.js";
import { RequestError, toMessage } from "../../../client/web/js/protocol.js";
import { PAGE_MESSAGES, Store } from "../../../client/web/js/store.js";
import { msg } from "./world.mjs";

const from = (at, more) => toMessage(msg(at, "0-0", more), more?.log ?? "");
const mine = (at, more) => from(at, { from: "alice", device: "web", to: "bob", ...more });
const ats = (messages) => messages.map(({ at }) => at);
const many = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => from(`${first + index}-0`));

async function newStore(replica = new MemoryReplica("alice")) {
  const kept = [];
  const store = new Store({ me: "alice", replica, onChange: () => {}, onKept: (cursors) => kept.push(...cursors), onBroken: (error) => kept.push(error) });
  const loaded = await store.load();
  store.useDevice("web");
  return { store, kept, ...loaded };
}

/** A server's history of one conversation; writes down what it is asked. */
function historyOf(messages) {
  const asked = [];
  const history = async (partner, before, limit) => {
    asked.push(before);
    const older = before ? messages.slice(0, messages.findIndex(({ at }) => at === before)) : messages;
    const page = older.slice(-limit);
    return { messages: page, more: older.length > limit, next: page[0]?.at ?? null };
  };
  return { history, asked };
}

const noServer = async () => {
  throw new Lost();
};

test("unread are the messages of others after what was read; who answers has read", async () => {
  const { store } = await newStore();
  store.message(from("1-0"));
  store.message(from("2-0"));
  store.message(from("3-0", { from: "carol" }));
  assert.deepEqual([store.conversations.get("bob").unread, store.unread], [2, 3]);
  store.message(mine("4-0"));
  assert.equal(store.conversations.get("bob").unread, 0);
  assert.equal(store.markRead("carol"), "3-0");
  assert.equal(store.markRead("carol"), null);
  assert.equal(store.unread, 0);
});

test("a message that stands elsewhere now is shown once, and no news", async () => {
  const replica = new MemoryReplica("alice");
  const { store } = await newStore(replica);
  await store.open("bob", noServer).catch(() => {});
  store.message(from("1-0"));
  store.message(from("2-0"));
  store.markRead("bob");
  store.message(from("3-0"));
  store.moved(from("8-0", { id: "2-0" }), "2-0");
  store.moved(from("9-0", { id: "3-0" }), "3-0");
  const conversation = store.conversations.get("bob");
  assert.deepEqual([ats(conversation.messages), conversation.last.at, conversation.unread], [["1-0", "8-0", "9-0"], "9-0", 1]);
  await store.flush();
  assert.deepEqual(ats(await replica.page("bob", { from: null, before: null, limit: 9 })), ["1-0", "8-0", "9-0"]);
});

test("a conversation is as late as its last message", async () => {
  const { store } = await newStore();
  store.message(from("1-0"));
  store.message(from("2-0", { from: "carol" }));
  store.conversation("zoe");
  store.message(from("3-0"));
  assert.deepEqual(store.sorted.map(({ record }) => record.with), ["bob", "carol", "zoe"]);
});

test("what was kept is there again after a reload, and unread is counted again", async () => {
  const replica = new MemoryReplica("alice");
  const { store, kept } = await newStore(replica);
  for (const message of [from("1-0"), mine("2-0"), from("3-0"), from("4-0")]) store.message(message);
  store.cursor("", "4-0");
  store.outbox({ id: "o", seq: 1, to: "dan", body: "x", time: 0, state: "waiting" }, false);
  await store.flush();
  assert.deepEqual(kept, [["", "4-0"]]);
  const again = await newStore(replica);
  assert.deepEqual([...again.cursors], [["", "4-0"]]);
  assert.deepEqual(ats(again.outboxes.get("web").map(({ id }) => ({ at: id }))), ["o"]);
  const bob = again.store.conversations.get("bob");
  assert.deepEqual([bob.unread, bob.last.at], [2, "4-0"]);
});

test("an open conversation shows what comes, each message once and in the log's order", async () => {
  const { store } = await newStore();
  store.message(from("1-0"));
  await store.open("bob", noServer).catch(() => {});
  assert.equal(store.message(from("4-0")), true);
  assert.equal(store.message(mine("3-0")), true);
  assert.equal(store.message(mine("3-0")), false);
  assert.deepEqual(ats(store.conversations.get("bob").messages), ["1-0", "3-0", "4-0"]);
});

test("scrolling back reads the replica first, then the server, then says that it is the start", async () => {
  const { store } = await newStore();
  const all = many(1, 3 * PAGE_MESSAGES);
  for (const message of all.slice(PAGE_MESSAGES)) store.message(message);
  const { history, asked } = historyOf(all);
  await store.open("bob", history);
  await store.older("bob", history);
  assert.deepEqual(asked, []);
  await store.older("bob", history);
  assert.deepEqual(asked, [`${PAGE_MESSAGES + 1}-0`]);
  const bob = store.conversations.get("bob");
  assert.deepEqual(ats(bob.messages), ats(all));
  await store.older("bob", history);
  assert.deepEqual([bob.atStart, asked.length], [true, 1]);
});

test("what the server once said to be all is not asked for again", async () => {
  const replica = new MemoryReplica("alice");
  const { history, asked } = historyOf([from("1-0")]);
  for (let reload = 0; reload < 2; reload += 1) {
    const { store } = await newStore(replica);
    store.conversation("bob");
    await store.open("bob", history);
    await store.older("bob", history);
    await store.flush();
    assert.equal(store.conversations.get("bob").atStart, true);
  }
  assert.equal(asked.length, 1);
});

test("a page may be empty although there is more before it", async () => {
  const { store } = await newStore();
  store.message(from("9-0"));
  const pages = new Map([
    ["9-0", { messages: [], more: true, next: "5-0" }],
    ["5-0", { messages: [from("2-0")], more: false, next: null }],
  ]);
  const history = async (partner, before) => pages.get(before);
  await store.open("bob", history);
  await store.older("bob", history);
  assert.equal(store.conversations.get("bob").atStart, false);
  await store.older("bob", history);
  assert.deepEqual(ats(store.conversations.get("bob").messages), ["2-0", "9-0"]);
});

test("a server that leads nowhere is not asked for ever", async () => {
  const { store } = await newStore();
  store.message(from("9-0"));
  const history = async () => ({ messages: [], more: true, next: "9-0" });
  await store.open("bob", history);
  await store.older("bob", history);
  assert.equal(store.conversations.get("bob").atStart, true);
});

test("over a hole only the server's history leads, and the older past is found behind it", async () => {
  const { store } = await newStore();
  const all = many(1, 8);
  for (const message of all.slice(0, 3)) store.message(message);
  store.hole("", "7-0");
  for (const message of all.slice(6)) store.message(message);
  const { history, asked } = historyOf(all.slice(4));
  await store.open("bob", history);
  const bob = store.conversations.get("bob");
  assert.deepEqual(ats(bob.messages), ["7-0", "8-0"]);
  await store.older("bob", history);
  assert.deepEqual([ats(bob.messages), asked], [["5-0", "6-0", "7-0", "8-0"], ["7-0"]]);
  await store.older("bob", history);
  assert.deepEqual(ats(bob.messages), ["1-0", "2-0", "3-0", "5-0", "6-0", "7-0", "8-0"]);
});

test("a hole while the conversation is open starts it again from after the hole", async () => {
  const { store } = await newStore();
  store.message(from("1-0"));
  await store.open("bob", noServer).catch(() => {});
  store.hole("", "7-0");
  store.message(from("7-0"));
  assert.deepEqual(ats(store.conversations.get("bob").messages), ["7-0"]);
});

test("without a server what is kept is shown, and asking again is left to the caller", async () => {
  const { store } = await newStore();
  store.message(from("1-0"));
  await store.open("bob", noServer);
  await assert.rejects(store.older("bob", noServer), Lost);
  const bob = store.conversations.get("bob");
  assert.deepEqual([ats(bob.messages), bob.loading, bob.atStart], [["1-0"], false, false]);
});

test("a refusal for good is the end of the past, for now", async () => {
  const { store } = await newStore();
  await store.open("nobody", async () => {
    throw new RequestError("not-found", "");
  });
  assert.equal(store.conversations.get("nobody").atStart, true);
});

test("a conversation that was only looked at is forgotten, one with messages or something to send is not", async () => {
  const { store } = await newStore();
  store.conversation("seen");
  store.close("seen", true);
  store.conversation("unsent");
  store.close("unsent", false);
  store.message(from("1-0"));
  store.close("bob", true);
  assert.deepEqual([...store.conversations.keys()], ["unsent", "bob"]);
});

test("marks go forward only", async () => {
  const { store } = await newStore();
  await store.open("bob", noServer).catch(() => {});
  store.message(mine("1-0", { id: "a" }));
  store.message(mine("2-0", { id: "b" }));
  await store.marked("bob", { device: "web", id: "b" }, "seenUpto");
  await store.marked("bob", { device: "web", id: "a" }, "seenUpto");
  await store.marked("bob", { device: "other", id: "a" }, "seenUpto");
  await store.marked("bob", { device: "", id: "unknown" }, "seenUpto");
  await store.marked("nobody", { device: "web", id: "b" }, "seenUpto");
  assert.equal(store.conversations.get("bob").record.seenUpto, "2-0");
  store.message(from("3-0"));
  store.readElsewhere("bob", "3-0");
  assert.equal(store.conversations.get("bob").unread, 0);
});

test("a new browser is told how things stand: what was read elsewhere, and what the other one has read of ours", async () => {
  const { store } = await newStore();
  store.message(mine("1-0", { id: "a", device: "phone" }));
  for (const message of many(2, 5)) store.message(message);
  const bob = store.conversations.get("bob");
  assert.equal(bob.unread, 4);
  store.stands({ with: "bob", read: "3-0", readBy: { device: "phone", id: "a" }, delivered: null });
  store.message(from("6-0"));
  store.stands({ with: "nobody", read: "9-0", readBy: null, delivered: null });
  await store.flush();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([bob.unread, bob.record.readUpto, bob.record.seenUpto], [3, "3-0", "1-0"]);
  assert.deepEqual([...store.conversations.keys()], ["bob"]);
});

test("a group's messages are a conversation of their own, and a hole in the user's log is none of theirs", async () => {
  const { store } = await newStore();
  store.message(from("1-0", { log: "#g", to: "#g" }));
  store.message(from("1-0"));
  store.hole("", "9-0");
  assert.deepEqual(["#g", "bob"].map((name) => store.conversations.get(name).record.floor), [null, "9-0"]);
});

test("when the disk is full nothing more is promised, and the page goes on", async () => {
  const replica = new MemoryReplica("alice");
  const { store, kept } = await newStore(replica);
  replica.write = async () => {
    throw new Error("full");
  };
  store.message(from("1-0"));
  store.cursor("", "1-0");
  await store.flush();
  store.message(from("2-0"));
  store.cursor("", "2-0");
  await store.flush();
  assert.deepEqual(kept.map(String), ["Error: full"]);
  assert.equal(store.conversations.get("bob").unread, 2);
});

test("a typing notice holds for a while, or until the message comes", async () => {
  const { store } = await newStore();
  store.message(from("1-0"));
  store.typing("bob", true, 1000);
  assert.equal(store.conversations.get("bob").typingUntil, 7000);
  store.message(from("2-0"));
  assert.equal(store.conversations.get("bob").typingUntil, 0);
});

test("what vanishes is gone in time: from memory, from the replica, and from what is unread", async () => {
  const replica = new MemoryReplica("alice");
  const { store } = await newStore(replica);
  await store.open("bob", noServer).catch(() => {});
  for (const message of [from("1-0"), from("2-0", { expires: 60 }), from("3-0", { expires: 90 })]) store.message(message);
  store.message(from("4-0", { from: "carol", expires: 60 }));
  await store.expire(59_999);
  assert.deepEqual([ats(store.conversation("bob").messages), store.unread], [["1-0", "2-0", "3-0"], 4]);
  await store.expire(60_000); // it was looked at just now
  await store.expire(61_000);
  assert.deepEqual([ats(store.conversation("bob").messages), store.conversation("bob").last.at], [["1-0", "3-0"], "3-0"]);
  assert.deepEqual([store.conversation("carol").last, store.unread], [null, 2]);
  await store.expire(90_000);
  assert.deepEqual([ats(store.conversation("bob").messages), store.conversation("bob").last.at, store.unread], [["1-0"], "1-0", 1]);
  assert.deepEqual(ats(await replica.page("bob", { from: null, before: null, limit: 9 })), ["1-0"]);
});
