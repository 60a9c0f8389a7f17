import assert from "node:assert/strict";
import { test } from "node:test";

import { Cursor } from "../../../client/web/js/cursor.js";

test("the entry that follows is next, an older one a duplicate, any other one a gap", () => {
  const cursor = new Cursor("4-0");
  assert.equal(cursor.judge("5-0", "4-0"), "next");
  assert.equal(cursor.judge("4-0", "3-0"), "duplicate");
  assert.equal(cursor.judge("3-9", "3-8"), "duplicate");
  assert.equal(cursor.judge("6-0", "5-0"), "gap");
  assert.equal(cursor.at, "4-0");
});

test("where nothing is known, whatever comes first is in order", () => {
  assert.equal(new Cursor().judge("6-0", "5-0"), "next");
});

test("it never goes back", () => {
  const cursor = new Cursor("10-0");
  cursor.advance("9-0");
  assert.equal(cursor.at, "10-0");
});

test("a reply stands for its entry: what follows it is in order, and its own entry a duplicate", () => {
  const cursor = new Cursor("4-0");
  cursor.reply("6-0");
  assert.equal(cursor.at, "4-0");
  assert.equal(cursor.judge("5-0", "4-0"), "next", "what was stored between the two may still come");
  assert.equal(cursor.judge("7-0", "6-0"), "next");
  assert.equal(cursor.judge("6-0", "5-0"), "duplicate");
  assert.equal(cursor.judge("8-0", "7-0"), "gap");
});

test("a reply that tells the position before it moves the cursor as soon as it follows", () => {
  const cursor = new Cursor("4-0");
  cursor.reply("6-0", "4-0");
  assert.equal(cursor.at, "6-0");
  cursor.reply("9-0", "8-0");
  cursor.reply("10-0", "9-0");
  assert.equal(cursor.at, "6-0");
  assert.equal(cursor.judge("11-0", "10-0"), "gap", "something before 9-0 is missing");
  cursor.advance("8-0");
  assert.equal(cursor.at, "10-0");
});

test("read again from a position, nothing is known from replies", () => {
  const cursor = new Cursor("4-0");
  cursor.reply("6-0");
  cursor.restart("4-0");
  assert.equal(cursor.judge("7-0", "6-0"), "gap");
  cursor.restart(null);
  assert.equal(cursor.judge("9-0", "8-0"), "next");
});
