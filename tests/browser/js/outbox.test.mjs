import assert from "node:assert/strict";
import { test } from "node:test";

import { Outbox } from "../../../client/web/js/outbox.js";

const idsOf = (items) => items.map((item) => item.id);

function filled() {
  const outbox = new Outbox();
  for (const [id, to] of [["a1", "bob"], ["a2", "bob"], ["c1", "carol"]]) outbox.add(id, to, "text", 0);
  return outbox;
}

test("one message of each conversation may go at a time", () => {
  const outbox = filled();
  assert.deepEqual(idsOf(outbox.due()), ["a1", "c1"]);
  outbox.find("a1").state = "flying";
  assert.deepEqual(idsOf(outbox.due()), ["c1"]);
  outbox.remove("a1");
  assert.deepEqual(idsOf(outbox.due()), ["a2", "c1"]);
});

test("a refused message does not hold back the next one", () => {
  const outbox = filled();
  outbox.find("a1").state = "failed";
  assert.deepEqual(idsOf(outbox.due()), ["a2", "c1"]);
  assert.equal(outbox.unsent, 2);
});

test("what was flying when the connection was lost goes again, with its id, in order", () => {
  const outbox = filled();
  for (const item of outbox.due()) item.state = "flying";
  outbox.interrupted();
  assert.deepEqual(idsOf(outbox.due()), ["a1", "c1"]);
  assert.ok(outbox.due().every((item) => item.again), "and says that it may be stored already");
  assert.equal(outbox.find("a2").again, undefined, "which what has never left may not");
});

test("what an earlier page left is taken up in the order of writing", () => {
  const kept = [
    { seq: 2, id: "b", to: "bob", body: "", time: 0, state: "waiting" },
    { seq: 1, id: "a", to: "bob", body: "", time: 0, state: "flying" },
  ];
  const outbox = new Outbox(kept);
  assert.deepEqual(idsOf(outbox.to("bob")), ["a", "b"]);
  assert.deepEqual(idsOf(outbox.due()), ["a"]);
  assert.equal(outbox.add("c", "bob", "", 0).seq, 3);
});

test("a refused message tried again is a new one, the latest", () => {
  const outbox = filled();
  assert.equal(outbox.renew("a1", "n", 5), undefined, "only a refused one");
  outbox.find("a1").state = "failed";
  assert.equal(outbox.renew("a1", "n", 5).state, "waiting");
  assert.deepEqual(idsOf(outbox.to("bob")), ["a2", "n"]);
  assert.deepEqual(outbox.partners(), ["bob", "carol"]);
});
