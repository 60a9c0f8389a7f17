import assert from "node:assert/strict";
import { test } from "node:test";

import { People } from "../../../client/web/js/people.js";
import { decode, toContact } from "../../../client/web/js/protocol.js";
import { standingOf } from "../../../client/web/js/view/people.js";

const contact = (user, state, more = {}) => toContact({ user, state, ...more });
const names = (list) => list.map(({ user }) => user);

test("requests and contacts are told apart, those who are there come first", () => {
  const people = new People();
  people.read([contact("eve", "asking", { quiet: true }), contact("bob", "mutual"), contact("ann", "mutual"), contact("mal", "none", { blocked: true })]);
  people.shows({ user: "bob", show: "away", status: "" });
  assert.deepEqual(names(people.requests), ["eve"]);
  assert.deepEqual(names(people.contacts), ["bob", "ann"]);
});

test("what the log says keeps the list in step", () => {
  const people = new People();
  people.changed(contact("bob", "asked"));
  assert.equal(people.of("bob").state, "asked");
  people.changed(contact("bob", "mutual"));
  people.changed(contact("bob", "none"));
  assert.deepEqual(names(people.contacts), []);
  assert.equal(people.of("bob").state, "none");
});

test("nobody is there before this connection has heard so, and no stranger ever is", () => {
  const people = new People();
  people.read([contact("bob", "mutual")]);
  people.shows({ user: "bob", show: "online", status: "" });
  people.shows({ user: "eve", show: "online", status: "" });
  assert.deepEqual([people.of("bob").show, people.of("eve").show], ["online", ""]);
  people.disconnected();
  assert.equal(people.of("bob").show, "offline");
});

test("how somebody stands is said in words", () => {
  const people = new People();
  people.read([contact("bob", "mutual"), contact("eve", "asked"), contact("mal", "mutual", { blocked: true })]);
  people.shows({ user: "bob", show: "away", status: "lunch" });
  assert.deepEqual(["bob", "eve", "mal", "zoe"].map((user) => standingOf(people.of(user))), ["away: lunch", "asked to be your contact", "blocked", ""]);
});

test("only what is whole is taken for a contact or presence", () => {
  assert.equal(toContact({ user: "bob" }), null);
  assert.equal(toContact({ ev: "msg", user: "bob", state: "mutual" }), null);
  assert.equal(decode('{"ev":"presence","user":"bob"}').kind, "unknown");
  assert.equal(decode('{"ev":"presence","user":"bob","show":"away"}').kind, "event");
  assert.equal(decode('{"ev":"contact","at":"1-0","prev":"0-0","user":"bob","state":"asked"}').kind, "entry");
});
