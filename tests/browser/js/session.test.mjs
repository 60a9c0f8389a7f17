import assert from "node:assert/strict";
import { test } from "node:test";

import { ACK_SECONDS } from "../../../client/web/js/acking.js";
import { Lost, REPLY_SECONDS } from "../../../client/web/js/asking.js";
import { Outbox } from "../../../client/web/js/outbox.js";
import { Session } from "../../../client/web/js/session.js";
import { Clock, Ports, msg, said } from "./world.mjs";

/** A session, and the server's side of it. */
class Dialogue {
  clock = new Clock();
  ports = new Ports(this.clock);

  constructor({ credentials = { token: "T" }, cursors = new Map([["", "4-0"]]), items = [] } = {}) {
    this.outbox = new Outbox(items);
    const account = { user: "alice", device: "web" };
    this.session = new Session({ account, credentials, cursors, outbox: this.outbox, ports: this.ports });
  }

  says(...frames) {
    for (const frame of frames) this.session.received(said(frame));
  }

  /** The frames sent since the last look. */
  sent() {
    return this.ports.takeFrames();
  }

  /** Answers the request that was sent last. */
  answers(ok) {
    this.says({ re: this.ports.frames.at(-1).ref, ok });
  }

  refuses(err) {
    this.says({ re: this.ports.frames.at(-1).ref, err });
  }

  logsIn(at = "4-0") {
    this.session.opened();
    this.answers({ user: "alice", device: "web", token: "T2", expires: 9, at, ping: 60, max_frame: 2000 });
    return this;
  }

  goesLive(at = "4-0") {
    this.logsIn(at).says({ ev: "synced", at });
    this.ports.takeFrames();
    this.ports.takeEvents();
    return this;
  }

  messages() {
    return this.ports.takeEvents("message").map(({ message }) => message.at);
  }
}

// ---- logging in

test("register, log in with the password, catch up, live; after that only the token is used", () => {
  const it = new Dialogue({ credentials: { password: "secret", register: true }, cursors: new Map() });
  it.session.opened();
  assert.deepEqual(it.ports.frames.at(-1), { op: "register", user: "alice", password: "secret", ref: 1 });
  it.answers({});
  assert.deepEqual(it.ports.frames.at(-1), { op: "login", user: "alice", password: "secret", device: "web", since: "0-0", resend: true, ref: 2 });
  it.answers({ token: "T2", expires: 9, at: "5-0", ping: 30, max_frame: 2000 });
  it.says(msg("5-0", "0-0"), { ev: "synced", at: "5-0" });
  assert.deepEqual(it.ports.takeEvents("stage").map(({ stage }) => stage), ["joining", "catching-up", "live"]);
  assert.deepEqual(it.ports.takeEvents("welcome"), [{ type: "welcome", token: "T2", expires: 9, ping: 30 }]);
  it.session.lost();
  it.session.opened();
  assert.deepEqual(it.ports.frames.at(-1), { op: "login", token: "T2", device: "web", since: "5-0", resend: true, ref: 3 });
});

test("a refused login ends the session and says why", () => {
  const it = new Dialogue({ credentials: { password: "wrong" } });
  it.session.opened();
  it.refuses({ code: "bad-credentials", text: "no" });
  assert.equal(it.ports.takeEvents("refused")[0].error.code, "bad-credentials");
  assert.equal(it.session.stage, "over");
});

test("a token is tried again when the server could not let anybody in", () => {
  const it = new Dialogue();
  it.session.opened();
  it.refuses({ code: "overloaded", text: "busy", retry: 7 });
  assert.deepEqual(it.ports.takeEvents("later"), [{ type: "later", after: 7 }]);
  assert.equal(it.session.stage, "joining");
});

test("somebody who has just typed a password is told at once", () => {
  const it = new Dialogue({ credentials: { password: "p" } });
  it.session.opened();
  it.refuses({ code: "overloaded", text: "busy" });
  assert.equal(it.ports.takeEvents("refused").length, 1);
});

// ---- reading

test("entries are passed on once and in order, whatever their event", () => {
  const it = new Dialogue().goesLive();
  it.says(msg("5-0", "4-0"), msg("5-0", "4-0"), { ev: "contact", at: "6-0", prev: "5-0", user: "x" }, msg("7-0", "6-0"), msg("5-0", "4-0"));
  assert.deepEqual(it.messages(), ["5-0", "7-0"]);
  assert.deepEqual(it.ports.takeEvents("cursor").map(({ at }) => at), ["5-0", "6-0", "7-0"]);
});

test("at a gap nothing is passed on, and the log is read again from the cursor", () => {
  const it = new Dialogue().goesLive();
  it.says(msg("6-0", "5-0"));
  assert.deepEqual(it.messages(), []);
  assert.equal(it.ports.takeEvents("stale").length, 1);
  it.session.lost();
  it.session.opened();
  assert.equal(it.ports.frames.at(-1).since, "4-0");
  it.answers({ token: "T", at: "6-0" });
  it.says(msg("5-0", "4-0"), msg("6-0", "5-0"), { ev: "synced", at: "6-0" });
  assert.deepEqual(it.messages(), ["5-0", "6-0"]);
});

test("a gap that reading again did not close is reported and stepped over", () => {
  const it = new Dialogue().goesLive();
  it.says(msg("6-0", "5-0"));
  it.session.lost();
  it.logsIn("6-0");
  it.says(msg("6-0", "5-0"), msg("7-0", "6-0"));
  assert.deepEqual(it.ports.takeEvents("hole"), [{ type: "hole", log: "", at: "6-0" }]);
  assert.deepEqual(it.messages(), ["6-0", "7-0"]);
});

test("what is no longer kept is reported, and reading goes on from what is", () => {
  const it = new Dialogue().logsIn("9-0");
  it.says({ ev: "truncated", at: "8-0" }, msg("8-0", "7-0"), msg("9-0", "8-0"), { ev: "synced", at: "9-0" });
  assert.deepEqual(it.ports.takeEvents("hole"), [{ type: "hole", log: "", at: "8-0" }]);
  assert.deepEqual(it.messages(), ["8-0", "9-0"]);
});

test("a server that lost the end of its log is followed from where it stands", () => {
  const it = new Dialogue({ cursors: new Map([["", "9-0"]]) }).logsIn("7-0");
  it.says({ ev: "synced", at: "7-0" }, msg("10-0", "7-0"));
  assert.deepEqual(it.messages(), ["10-0"]);
});

test("a group's log has a cursor of its own, which the next login names", () => {
  const it = new Dialogue().goesLive();
  it.says(msg("3-0", "2-0", { log: "#g", to: "#g" }), msg("5-0", "4-0"), msg("9-0", "8-0", { log: "#g", to: "#g" }));
  assert.deepEqual(it.messages(), ["3-0", "5-0"]);
  assert.equal(it.ports.takeEvents("stale").length, 1);
  it.session.lost();
  it.session.opened();
  assert.deepEqual(it.ports.frames.at(-1).since, { "": "5-0", "#g": "3-0" });
});

test("what this client does not know changes nothing", () => {
  const it = new Dialogue().goesLive();
  it.says({ ev: "weather" }, { re: 99, ok: {} }, { ev: "ping" }, { x: 1 }, { ...msg("5-0", "4-0"), mood: "good" });
  assert.deepEqual(it.messages(), ["5-0"]);
});

// ---- acks

test("what was kept is acked, many positions with one frame", () => {
  const it = new Dialogue().goesLive();
  for (const at of ["5-0", "6-0", "7-0"]) it.session.kept(new Map([["", at]]));
  it.session.kept(new Map([["#g", "3-0"]]));
  assert.deepEqual(it.sent(), []);
  it.clock.pass(ACK_SECONDS);
  assert.deepEqual(it.sent(), [{ op: "ack", upto: "7-0" }, { op: "ack", upto: "3-0", log: "#g" }]);
  it.clock.pass(60);
  assert.deepEqual(it.sent(), []);
});

test("what was kept while away is acked after the next login", () => {
  const it = new Dialogue();
  it.session.kept(new Map([["", "4-0"]]));
  it.clock.pass(60);
  assert.deepEqual(it.sent(), []);
  it.logsIn();
  it.clock.pass(ACK_SECONDS);
  assert.deepEqual(it.sent().at(-1), { op: "ack", upto: "4-0" });
});

// ---- sending

test("a message waits until the session is live, and becomes one of the log when it is answered for", () => {
  const it = new Dialogue().logsIn();
  it.session.send("bob", "hi");
  it.ports.takeFrames();
  it.says({ ev: "synced", at: "4-0" });
  assert.deepEqual(it.ports.frames, [{ op: "send", id: "id1", to: "bob", body: "hi", ref: 2 }]);
  it.answers({ id: "id1", at: "5-0" });
  const [{ message, live }] = it.ports.takeEvents("message");
  assert.deepEqual(message, { log: "", at: "5-0", from: "alice", device: "web", to: "bob", id: "id1", body: "hi" });
  assert.equal(live, true);
  assert.equal(it.outbox.size, 0);
});

test("after its own message the next entry is in order", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "hi");
  it.answers({ id: "id1", at: "5-0" });
  it.ports.takeEvents();
  it.says(msg("6-0", "5-0"));
  assert.deepEqual(it.messages(), ["6-0"]);
  assert.equal(it.ports.takeEvents("stale").length, 0);
});

test("to one partner one message flies at a time, to several partners several", () => {
  const it = new Dialogue().goesLive();
  for (const [to, body] of [["bob", "1"], ["bob", "2"], ["carol", "3"]]) it.session.send(to, body);
  assert.deepEqual(it.ports.frames.map(({ body }) => body), ["1", "3"]);
  it.says({ re: it.ports.frames[0].ref, ok: { id: "id1", at: "5-0" } });
  assert.deepEqual(it.ports.frames.map(({ body }) => body), ["1", "3", "2"]);
});

test("what was not answered goes again after the backlog, with its ids and in order", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.session.send("bob", "2");
  it.ports.takeFrames();
  it.session.lost();
  it.logsIn();
  assert.deepEqual(it.sent().map(({ op }) => op), ["login"]);
  it.says({ ev: "synced", at: "4-0" });
  it.answers({ id: "id1", at: "5-0" });
  assert.deepEqual(it.sent().map(({ id, body }) => [id, body]), [["id1", "1"], ["id2", "2"]]);
});

test("what the backlog shows to have been stored is not sent again", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.session.send("bob", "2");
  it.session.lost();
  it.logsIn("5-0");
  it.ports.takeFrames();
  it.says(msg("5-0", "4-0", { from: "alice", device: "web", to: "bob", id: "id1", body: "1" }), { ev: "synced", at: "5-0" });
  assert.deepEqual(it.sent().map(({ id }) => id), ["id2"]);
});

test("when the store has lost it, what was confirmed goes again: announced, in order, before anything newer", () => {
  const it = new Dialogue().goesLive();
  for (const [number, body] of ["1", "2", "3"].entries()) {
    it.session.send("bob", body);
    if (body !== "3") it.answers({ id: `id${number + 1}`, at: `${5 + number}-0`, prev: `${4 + number}-0` });
  }
  it.ports.takeEvents();
  it.ports.takeFrames();
  it.says({ ev: "resend", seconds: 60 }, { ev: "regressed", at: "5-0" });
  const [marker, first] = it.sent();
  assert.deepEqual([marker.op, first.id], ["resend", "id1"]);
  it.says({ re: first.ref, ok: { id: "id1", at: "5-0" } });
  const [second] = it.sent();
  it.says({ re: second.ref, ok: { id: "id2", at: "9-0", prev: "5-0" } });
  assert.deepEqual(it.ports.takeEvents("message").map(({ message, was }) => [message.at, was]), [["5-0", null], ["9-0", "6-0"]]);
  const [third] = it.sent();
  assert.deepEqual([second.id, second.again, third.id, third.again], ["id2", undefined, "id3", true]);
  it.says({ re: third.ref, ok: { id: "id3", at: "10-0", prev: "9-0" } });
  assert.equal(it.outbox.size, 0);
  it.says(msg("11-0", "10-0"));
  assert.deepEqual(it.messages(), ["10-0", "11-0"]);
});

test("what refuses an earlier attempt does not hold back the one under way", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  const [first] = it.sent();
  it.says({ ev: "resend", seconds: 60 }, { re: first.ref, err: { code: "unavailable", text: "", retry: 2 } });
  const [, second] = it.sent();
  assert.equal(second.id, "id1");
  it.session.send("carol", "2");
  assert.deepEqual(it.sent().map(({ id }) => id), ["id2"]);
});

test("a message that comes again at a new position is known, and tells where it was", () => {
  const it = new Dialogue().goesLive();
  it.says(msg("5-0", "4-0", { id: "m1" }), msg("6-0", "5-0", { id: "m2" }));
  it.ports.takeEvents();
  it.says({ ev: "regressed", at: "5-0" }, msg("9-0", "5-0", { id: "m2" }), msg("10-0", "9-0", { id: "m3" }));
  assert.deepEqual(it.ports.takeEvents("stale"), []);
  assert.deepEqual(it.ports.takeEvents("message").map(({ message, was }) => [message.at, was]), [["9-0", "6-0"], ["10-0", null]]);
});

test("while in doubt, what the backlog shows to have been stored is sent again, and shown as sent", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.session.lost();
  it.logsIn("5-0");
  it.ports.takeFrames();
  it.says({ ev: "resend", seconds: 60 }, msg("5-0", "4-0", { from: "alice", device: "web", to: "bob", id: "id1", body: "1" }));
  assert.equal(it.outbox.size, 0);
  it.says({ ev: "synced", at: "5-0" });
  assert.deepEqual(it.sent().map(({ op, id }) => id ?? op), ["resend", "id1"]);
});

test("a message sent from another device is passed on like any other", () => {
  const it = new Dialogue().goesLive();
  it.says(msg("5-0", "4-0", { from: "alice", device: "phone", to: "bob" }));
  assert.deepEqual(it.messages(), ["5-0"]);
});

test("a refusal that passes is waited out, then the same message goes again before any later one", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.session.send("bob", "2");
  it.refuses({ code: "rate-limited", text: "slow", retry: 3 });
  it.session.send("carol", "3");
  it.ports.takeFrames();
  it.clock.pass(2.9);
  assert.deepEqual(it.sent(), []);
  it.clock.pass(0.2);
  assert.deepEqual(it.sent().map(({ id }) => id), ["id1", "id3"]);
});

test("a wait from the server grows, too, with every refusal in a row, and is scattered", () => {
  const it = new Dialogue().goesLive();
  it.ports.random = () => 1;
  it.session.send("bob", "1");
  for (const wait of [1, 2, 4, 8, 16, 30, 30]) {
    it.refuses({ code: "overloaded", text: "full", retry: 1 });
    it.ports.takeFrames();
    it.clock.pass(wait * 1.5 - 0.1);
    assert.equal(it.ports.frames.length, 0);
    it.clock.pass(0.2);
    assert.equal(it.ports.frames.length, 1);
  }
});

test("without a wait from the server it grows with every refusal in a row", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  for (const wait of [1, 2, 4, 8, 16, 30, 30]) {
    it.refuses({ code: "unavailable", text: "store" });
    it.ports.takeFrames();
    it.clock.pass(wait - 0.1);
    assert.equal(it.ports.frames.length, 0);
    it.clock.pass(0.2);
    assert.equal(it.ports.frames.length, 1);
  }
});

test("a message refused for good is kept as failed, and the next one goes", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.session.send("bob", "2");
  it.refuses({ code: "blocked", text: "no" });
  assert.deepEqual([it.outbox.find("id1").state, it.outbox.find("id1").code], ["failed", "blocked"]);
  assert.equal(it.ports.frames.at(-1).id, "id2");
});

test("a failed message can be tried again, as a new one, or discarded", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.refuses({ code: "not-found", text: "no" });
  it.session.retry("id1");
  assert.equal(it.ports.frames.at(-1).id, "id2");
  it.session.discard("id2");
  assert.equal(it.outbox.size, 1, "only a failed one");
  it.refuses({ code: "not-found", text: "no" });
  it.session.discard("id2");
  assert.equal(it.outbox.size, 0);
});

test("a message the server would close the session over is not sent", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "ü".repeat(990));
  assert.deepEqual(it.sent(), []);
  assert.equal(it.outbox.find("id1").code, "too-large");
});

test("what cannot be carried is replaced before it is sent", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "a\u0000b");
  assert.equal(it.sent()[0].body, "a\uFFFDb");
});

// ---- leaving and being left

test("bye says when to come back, or not to", () => {
  const it = new Dialogue().goesLive();
  it.says({ ev: "bye", code: "drain", text: "moving", reconnect: true, after: 2.5 });
  assert.deepEqual(it.ports.takeEvents("bye"), [{ type: "bye", code: "drain", text: "moving", reconnect: true, after: 2.5 }]);
  assert.equal(it.session.stage, "live");
  it.says({ ev: "bye", code: "replaced", reconnect: false });
  assert.equal(it.session.stage, "over");
  it.session.opened();
  assert.equal(it.session.stage, "over");
});

test("a request without an answer makes the connection stale", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.clock.pass(REPLY_SECONDS);
  assert.match(it.ports.takeEvents("stale")[0].why, /send/);
});

test("nothing happens by itself once the connection is lost", () => {
  const it = new Dialogue().goesLive();
  it.session.send("bob", "1");
  it.session.kept(new Map([["", "4-0"]]));
  it.session.lost();
  it.ports.takeFrames();
  it.ports.takeEvents();
  it.clock.pass(1000);
  assert.deepEqual([it.sent(), it.ports.takeEvents()], [[], []]);
});

test("logout says so once and ends it", () => {
  const it = new Dialogue().goesLive();
  it.session.logout();
  it.session.logout();
  assert.deepEqual(it.sent(), [{ op: "logout" }]);
});

// ---- history and markers

test("history is asked for and comes as messages; what is not one is left out", async () => {
  const it = new Dialogue().goesLive();
  const page = it.session.history("bob", "9-0", 2);
  assert.deepEqual(it.ports.frames.at(-1), { op: "history", with: "bob", before: "9-0", limit: 2, ref: 2 });
  it.answers({ messages: [msg("5-0", "4-0"), { odd: 1 }, msg("6-0", "5-0")], more: true });
  const { messages, more, next } = await page;
  assert.deepEqual([messages.map(({ at }) => at), more, next], [["5-0", "6-0"], true, "5-0"]);
});

test("history says from where there is more, even where a page is empty", async () => {
  const it = new Dialogue().goesLive();
  const pages = [{ messages: [], more: true, next: "2-0" }, { messages: [], more: true }, { more: false }];
  const wanted = [[true, "2-0"], [false, null], [false, null]];
  for (const [index, ok] of pages.entries()) {
    const page = it.session.history("bob", "9-0", 2);
    it.answers(ok);
    const { more, next } = await page;
    assert.deepEqual([more, next], wanted[index]);
  }
});

test("history fails with the connection", async () => {
  const it = new Dialogue().goesLive();
  const page = it.session.history("bob", null, 2);
  it.session.lost();
  await assert.rejects(page, Lost);
  await assert.rejects(it.session.history("bob", null, 2), Lost);
});

test("a server that does not know typing and read markers is not bothered again", () => {
  const it = new Dialogue().goesLive();
  it.session.typing("bob", true);
  it.refuses({ code: "unknown-op", text: "op" });
  it.session.typing("bob", true);
  it.session.read("bob", "5-0");
  assert.deepEqual(it.sent().map(({ op }) => op), ["typing", "read"]);
});
