import assert from "node:assert/strict";
import { test } from "node:test";

import { amended, bodyOf, reactionsOf, Waiting } from "../../../client/web/js/amendments.js";
import { MemoryReplica } from "../../../client/web/js/memory.js";
import { toAmendment, toMessage } from "../../../client/web/js/protocol.js";
import { Store } from "../../../client/web/js/store.js";
import { rowsOf } from "../../../client/web/js/view/rows.js";
import { msg } from "./world.mjs";

const message = (at = "1-0", more = {}) => toMessage(msg(at, "0-0", { device: "pad", id: `m${at}`, ...more }), "");
const about = (ev, stamp, more = {}) =>
  toAmendment(
    {
      ev,
      at: `${stamp}-0`,
      prev: "0-0",
      of: { from: "bob", device: "pad", id: "m1-0" },
      from: "bob",
      device: "pad",
      to: "alice",
      id: `a${stamp}`,
      stamp,
      ...more,
    },
    "",
  );

function permutations(items) {
  if (items.length < 2) return [items];
  return items.flatMap((item, index) => permutations(items.toSpliced(index, 1)).map((rest) => [item, ...rest]));
}

test("in whatever order amendments come, the same is shown", () => {
  const all = [
    about("edit", 3, { body: "three" }),
    about("edit", 2, { body: "two" }),
    about("reaction", 4, { from: "alice", emoji: "+" }),
    about("reaction", 5, { emoji: "+" }),
    about("reaction", 6, { from: "carol", emoji: "-" }),
    about("reaction", 7, { from: "carol" }),
  ];
  for (const order of permutations(all)) {
    const now = order.reduce(amended, message());
    assert.deepEqual([bodyOf(now), reactionsOf(now)], ["three", "+ 2"]);
  }
  for (const order of permutations([about("delete", 1), ...all.slice(0, 3)])) {
    const now = order.reduce(amended, message());
    assert.deepEqual([now.deleted, bodyOf(now), reactionsOf(now)], [true, "", ""]);
  }
});

test("what says nothing changes nothing", () => {
  const now = amended(message(), about("edit", 3, { body: "three" }));
  assert.equal(amended(now, about("edit", 3, { body: "three" })), now);
  for (const bad of [{}, { ev: "edit" }, { ...about("edit", 1), ev: "msg" }, null]) assert.equal(toAmendment(bad, ""), null);
});

test("amendments wait for their message", () => {
  const waiting = new Waiting();
  waiting.add(about("edit", 2, { body: "two" }));
  assert.equal(bodyOf(waiting.apply(message())), "two");
  assert.equal(bodyOf(waiting.apply(message("2-0"))), message("2-0").body);
});

async function newStore(replica) {
  const store = new Store({ me: "alice", replica, onChange: () => {}, onKept: () => {}, onBroken: (error) => assert.fail(error) });
  await store.load();
  store.useDevice("web");
  return store;
}

const history = (messages, amendments = []) => async () => ({ messages, amendments, more: false, next: null });
const texts = (store) => rowsOf(store.conversation("bob"), [], { me: "alice", device: "web", now: 0 }).filter(({ kind }) => kind === "message");

test("an open conversation shows what was changed, and a reload does, too", async () => {
  const replica = new MemoryReplica("alice");
  const store = await newStore(replica);
  await store.open("bob", history([]));
  store.message(message());
  store.message(message("2-0", { reply: { from: "bob", device: "pad", id: "m1-0" } }));
  await store.amended(about("edit", 3, { body: "three" }));
  await store.amended(about("reaction", 4, { emoji: "+" }));
  const [first, second] = texts(store);
  assert.deepEqual([first.text, first.edited, first.reactions], ["three", true, "+"]);
  assert.equal(second.quote, "three");
  await store.flush();
  const again = await newStore(replica);
  await again.open("bob", history([]));
  assert.deepEqual(texts(again).map(({ text }) => text), ["three", second.text]);
  await again.amended(about("delete", 5));
  assert.deepEqual(texts(again).map(({ quote }) => quote), ["…"]);
  await again.flush();
  assert.equal((await replica.find("bob", ({ id }) => id === "m1-0")).body, "");
});

test("a closed conversation is changed as well", async () => {
  const store = await newStore(new MemoryReplica("alice"));
  store.message(message());
  await store.amended(about("edit", 3, { body: "three" }));
  assert.equal(bodyOf(store.conversation("bob").last), "three");
  await store.open("bob", history([]));
  assert.deepEqual(texts(store).map(({ text }) => text), ["three"]);
});

test("a page of history has what was changed in it, and behind it", async () => {
  const store = await newStore(new MemoryReplica("alice"));
  await store.amended(about("reaction", 9, { emoji: "+" }));
  await store.open("bob", history([message()], [about("edit", 3, { body: "three" })]));
  const [row] = texts(store);
  assert.deepEqual([row.text, row.reactions], ["three", "+"]);
});

test("a deleted message is not unread any more, whenever one hears of it", async () => {
  const store = new Store({ me: "alice", replica: new MemoryReplica("alice"), onChange: () => {}, onKept: () => {}, onBroken: () => {} });
  await store.load();
  store.useDevice("web");
  store.message(message("1-0"));
  store.message(message("2-0"));
  assert.equal(store.unread, 2);
  await store.amended(about("delete", 3));
  assert.equal(store.unread, 1);
  await store.amended(about("delete", 5, { of: { from: "bob", device: "pad", id: "m4-0" } }));
  store.message(message("4-0"));
  assert.equal(store.unread, 1);
});
