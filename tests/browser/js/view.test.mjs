import assert from "node:assert/strict";
import { test } from "node:test";

import { toMessage } from "../../../client/web/js/protocol.js";
import { newRecord } from "../../../client/web/js/record.js";
import { bannerOf } from "../../../client/web/js/view/banner.js";
import * as format from "../../../client/web/js/view/format.js";
import { rowsOf } from "../../../client/web/js/view/rows.js";
import { msg } from "./world.mjs";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOON = new Date(2026, 4, 20, 12).getTime();
const reader = { me: "alice", device: "web", now: NOON };

const from = (time, more) => toMessage(msg(`${time}-0`, "0-0", more), more?.log ?? "");
const conversationOf = (messages, record = {}) => ({ record: { ...newRecord("bob"), ...record }, messages });
const itemOf = (id, state, more) => ({ seq: 1, id, to: "bob", body: id, time: NOON, state, ...more });

test("messages of one sender close together are one block, days are set apart", () => {
  const times = [NOON - 26 * HOUR, NOON - 3 * MINUTE, NOON - 2 * MINUTE, NOON];
  const messages = times.map((time, index) => from(time, index === 3 ? { from: "alice", to: "bob" } : {}));
  const rows = rowsOf(conversationOf(messages), [], reader);
  assert.deepEqual(rows.map((row) => row.text.replace(/^body.*/, "body")), ["Yesterday", "body", "Today", "body", "body", "body"]);
  assert.deepEqual(rows.filter((row) => row.kind === "message").map(({ opens }) => opens), [true, true, false, true]);
  assert.equal(new Set(rows.map(({ key }) => key)).size, rows.length);
});

test("a message keeps its line when it is answered for", () => {
  const [, waiting] = rowsOf(conversationOf([]), [itemOf("x", "flying")], reader);
  const [, stored] = rowsOf(conversationOf([from(NOON, { from: "alice", device: "web", to: "bob", id: "x" })]), [], reader);
  assert.equal(waiting.key, stored.key);
  assert.deepEqual([waiting.state, stored.state], ["sending", "sent"]);
});

test("what vanishes says so, and has no line once its time has come", () => {
  const messages = [from(NOON - 2, { body: "stays" }), from(NOON - 1, { body: "goes", expires: NOON / 1000 + 1 })];
  const linesAt = (now) => rowsOf(conversationOf(messages), [], { ...reader, now }).filter(({ kind }) => kind === "message");
  assert.deepEqual(linesAt(NOON).map(({ text, vanishes }) => [text, vanishes]), [["stays", false], ["goes", true]]);
  assert.deepEqual(linesAt(NOON + 1000).map(({ text }) => text), ["stays"]);
});

test("a refused message says why, with the code", () => {
  const row = rowsOf(conversationOf([]), [itemOf("x", "failed", { code: "not-found", text: "" })], reader).at(-1);
  assert.equal(row.why, "Not sent: there is no user called bob (not-found).");
  const odd = rowsOf(conversationOf([]), [itemOf("x", "failed", { code: "constructor", text: "odd" })], reader).at(-1);
  assert.equal(odd.why, "Not sent: odd (constructor).");
});

test("marks show how far our messages got", () => {
  const own = { from: "alice", device: "phone", to: "bob" };
  const messages = [from(NOON, own), from(NOON + 1, own), from(NOON + 2, own)];
  const rows = rowsOf(conversationOf(messages, { seenUpto: `${NOON}-0`, deliveredUpto: `${NOON + 1}-0` }), [], reader);
  assert.deepEqual(rows.filter((row) => row.own).map(({ state }) => state), ["seen", "delivered", "sent"]);
});

test("in a group the sender is named", () => {
  const conversation = { record: newRecord("#g"), messages: [from(NOON, { log: "#g", to: "#g" })] };
  assert.equal(rowsOf(conversation, [], reader).at(-1).author, "bob");
});

test("a body that is not text is shown as well as it can be", () => {
  assert.equal(format.bodyText("a"), "a");
  assert.equal(format.bodyText({ text: "b", style: 1 }), "b");
  assert.equal(format.bodyText({ picture: 1 }), '{"picture":1}');
  assert.equal(format.bodyText(null), "null");
  assert.equal(format.lineOf(" a\n\nb "), " a b ");
});

test("times are as short as they can be", () => {
  assert.equal(format.shortLabel(NOON - 24 * HOUR, NOON), "Yesterday");
  assert.equal(format.shortLabel(NOON, NOON), format.clockLabel(NOON));
  assert.match(format.dayLabel(NOON - 9000 * HOUR, NOON), /2025/);
  assert.equal(format.dayLabel(NOON + HOUR, NOON), "Today");
  assert.equal(format.waitLabel(NOON + 1, NOON), "1 s");
  assert.equal(format.waitLabel(NOON + 4001, NOON), "5 s");
});

test("a name always has the same colour, and a letter", () => {
  assert.equal(format.hueOf("alice"), format.hueOf("alice"));
  assert.deepEqual([format.initialOf("alice"), format.initialOf("#team")], ["A", "T"]);
});

test("errors are explained, unknown ones repeated", () => {
  assert.match(format.whyNotSignedIn({ code: "bad-credentials", message: "" }), /wrong/);
  assert.match(format.whyNotSignedIn({ code: "odd", message: "text" }), /text \(odd\)/);
  assert.match(format.whyEnded({ code: "shutdown", text: "over" }), /over/);
});

test("the banner says what stands between the page and the server", () => {
  const around = { online: true, broken: false, now: NOON };
  const textOf = (link, more) => bannerOf({ retryAt: 0, ...link }, { ...around, ...more }).text;
  assert.equal(textOf({ stage: "live" }), "");
  assert.match(textOf({ stage: "live" }, { broken: true }), /no room/);
  assert.match(textOf({ stage: "offline" }, { online: false }), /offline/);
  assert.match(textOf({ stage: "joining" }), /Connecting/);
  assert.match(textOf({ stage: "catching-up" }), /Catching up/);
  const waiting = bannerOf({ stage: "offline", retryAt: NOON + 3000 }, around);
  assert.deepEqual([waiting.detail, waiting.canHurry], ["Trying again in 3 s.", true]);
  const trying = bannerOf({ stage: "joining", retryAt: NOON - 1 }, around);
  assert.deepEqual([trying.text, trying.detail, trying.canHurry], [waiting.text, "Trying again…", false]);
});
