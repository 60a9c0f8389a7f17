import assert from "node:assert/strict";
import { test } from "node:test";

import * as protocol from "../../../client/web/js/protocol.js";
import { msg, said } from "./world.mjs";

test("a frame is a reply, an entry, an event, or nothing this client knows", () => {
  assert.deepEqual(said({ re: 1, ok: { at: "1-0" } }), { kind: "ok", ref: 1, ok: { at: "1-0" } });
  assert.equal(said({ re: "a", err: { code: "exists", text: "taken" } }).error.code, "exists");
  assert.equal(said(msg("5-0", "4-0")).kind, "entry");
  assert.equal(said({ ev: "synced", at: "5-0" }).name, "synced");
  assert.equal(said({ ev: "weather", sky: "blue" }).kind, "unknown");
  assert.equal(said({ hello: 1 }).kind, "unknown");
  assert.equal(said({ re: 1 }).kind, "unknown");
});

test("every event with a position and the one before it is an entry, of a group's log where it says so", () => {
  assert.equal(said({ ev: "contact", at: "5-0", prev: "4-0", user: "bob" }).log, protocol.OWN_LOG);
  assert.equal(said({ ev: "group", log: "#g", at: "5-0", prev: "4-0" }).log, "#g");
});

test("an event without what it must carry is not believed", () => {
  assert.equal(said({ ev: "synced", at: 5 }).kind, "unknown");
  assert.equal(said({ ev: "bye" }).kind, "unknown");
  assert.equal(said({ ev: "constructor" }).kind, "unknown");
});

test("what is not JSON, or not an object, is an error of its own", () => {
  for (const text of ["", "{", "[]", "null", "7", '"text"']) assert.throws(() => protocol.decode(text), protocol.FrameError);
});

test("an error says whether asking again may help", () => {
  const errorOf = (err) => said({ re: 1, err }).error;
  assert.deepEqual([errorOf({ code: "rate-limited", retry: 2 }).passing, errorOf({ code: "rate-limited", retry: 2 }).retry], [true, 2]);
  assert.equal(errorOf({ code: "blocked" }).passing, false);
  assert.equal(errorOf({ code: "unavailable", retry: "soon" }).retry, null);
});

test("positions are ordered by time, then by counter, whatever their length", () => {
  const sorted = ["0-0", "999-7", "1000-2", "1000-10", "1000-18446744073709551614", "1000-18446744073709551615", "1001-0"];
  const shuffled = [sorted[4], sorted[1], sorted[6], sorted[3], sorted[0], sorted[5], sorted[2]];
  assert.deepEqual(shuffled.sort(protocol.comparePositions), sorted);
  assert.equal(protocol.comparePositions("5-1", "5-1"), 0);
  assert.equal(protocol.laterPosition("9-0", "10-0"), "10-0");
  assert.equal(protocol.laterPosition(null, "1-0"), "1-0");
  assert.equal(protocol.laterPosition(null, undefined), null);
  assert.equal(protocol.timeOf("1700000000000-3"), 1_700_000_000_000);
});

test("since is the own log's cursor, or an object where there are groups", () => {
  assert.equal(protocol.sinceOf(new Map()), "0-0");
  assert.equal(protocol.sinceOf(new Map([["", "7-0"]])), "7-0");
  assert.deepEqual(protocol.sinceOf(new Map([["#g", "3-0"]])), { "": "0-0", "#g": "3-0" });
});

test("only a repeat says that it is one", () => {
  assert.deepEqual(protocol.requests.send("c1", "bob", "x"), { op: "send", id: "c1", to: "bob", body: "x" });
  assert.equal(protocol.requests.send("c1", "bob", "x", true).again, true);
});

test("an ack names the log only where it is a group's", () => {
  assert.deepEqual(protocol.requests.ack("", "7-0"), { op: "ack", upto: "7-0" });
  assert.deepEqual(protocol.requests.ack("#g", "7-0"), { op: "ack", upto: "7-0", log: "#g" });
});

test("a message belongs to the other user, or to the group", () => {
  const partner = (message) => protocol.partnerOf(message, "alice");
  assert.equal(partner({ log: "", from: "bob", to: "alice" }), "bob");
  assert.equal(partner({ log: "", from: "alice", to: "bob" }), "bob");
  assert.equal(partner({ log: "", from: "alice", to: "alice" }), "alice");
  assert.equal(partner({ log: "#g", from: "bob", to: "#g" }), "#g");
  assert.equal(partner({ log: "", from: "bob", to: "#g" }), "#g");
});

test("only a message is a message", () => {
  assert.equal(protocol.toMessage({ ev: "contact", at: "1-0", from: "bob", to: "alice" }, ""), null);
  assert.equal(protocol.toMessage({ at: "1-0", from: "bob" }, ""), null);
  assert.equal(protocol.toMessage("text", ""), null);
  assert.deepEqual(protocol.toMessage({ at: "1-0", from: "bob", to: "alice", new: 1 }, ""), {
    log: "", at: "1-0", from: "bob", device: "", to: "alice", id: "", body: "",
  });
});

test("names are put into small letters and looked at", () => {
  assert.equal(protocol.parseUser(" Alice "), "alice");
  assert.equal(protocol.parsePartner("#Team.1"), "#team.1");
  for (const bad of ["", " ", "-a", ".a", "a b", "ä", "#a", "a".repeat(65)]) assert.throws(() => protocol.parseUser(bad), protocol.NameError);
  assert.throws(() => protocol.parsePartner("##a"), protocol.NameError);
});

test("text keeps what the protocol carries, and loses nothing else", () => {
  assert.equal(protocol.cleanText("a\tb\nc\r\u{1F600}ü"), "a\tb\nc\r\u{1F600}ü");
  assert.equal(protocol.cleanText("a\u0000b\u001Bc\uD800d\uFFFEe\uFFFF"), "a\uFFFDb\uFFFDc\uFFFDd\uFFFDe\uFFFD");
});
