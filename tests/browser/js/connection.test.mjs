import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection, GOOD_SECONDS, SILENCE_SECONDS, waitBefore } from "../../../client/web/js/connection.js";
import { Clock } from "./world.mjs";

class Socket {
  readyState = 0;
  sent = [];
  closed = false;

  opens() {
    this.readyState = 1;
    this.onopen();
  }

  says(text) {
    this.onmessage({ data: text });
  }

  fails() {
    this.readyState = 3;
    this.onclose();
  }

  send(text) {
    this.sent.push(text);
  }

  close() {
    this.closed = true;
  }
}

class Setting {
  clock = new Clock();
  sockets = [];
  told = [];

  constructor() {
    const tell = (what) => (text) => this.told.push(text === undefined ? what : `${what} ${text}`);
    this.connection = new Connection({
      open: () => this.sockets[this.sockets.push(new Socket()) - 1],
      clock: this.clock,
      random: () => 1,
      probe: "probe",
      on: { opened: tell("opened"), text: tell("text"), lost: tell("lost"), waiting: (until) => this.told.push(`waiting ${(until - this.clock.now()) / 1000}`) },
    });
    this.connection.start();
  }

  get socket() {
    return this.sockets.at(-1);
  }

  goesLive(ping = 60) {
    this.socket.opens();
    this.connection.live(ping);
    this.told = [];
  }
}

test("waits grow, are scattered, are bounded, and never undercut what the server asked for", () => {
  assert.equal(waitBefore(0, 0, 0), 0);
  assert.equal(waitBefore(0, 0, 1), 1);
  assert.deepEqual([1, 2, 3, 4, 5, 99].map((failures) => waitBefore(failures, 0, 1)), [2, 4, 8, 16, 30, 30]);
  assert.deepEqual([1, 5].map((failures) => waitBefore(failures, 0, 0)), [1, 15]);
  assert.equal(waitBefore(0, 10, 0), 10);
  assert.equal(waitBefore(7, 10, 1), 11);
  assert.equal(waitBefore(0, 1, 1), 1.5);
});

test("a lost connection is made again, after longer and longer waits", () => {
  const it = new Setting();
  it.socket.fails();
  it.clock.pass(1);
  it.socket.fails();
  it.clock.pass(2);
  assert.equal(it.sockets.length, 3);
  assert.deepEqual(it.told, ["lost", "waiting 1", "lost", "waiting 2"]);
});

test("after a connection that was good for a while the first wait is short again", () => {
  const it = new Setting();
  for (const wait of [1, 2, 4]) {
    it.socket.fails();
    it.clock.pass(wait);
  }
  it.goesLive();
  it.clock.pass(GOOD_SECONDS);
  it.socket.fails();
  assert.deepEqual(it.told, ["lost", "waiting 1"]);
});

test("a connection that is lost at once does not count as good", () => {
  const it = new Setting();
  it.socket.fails();
  it.clock.pass(1);
  it.goesLive();
  it.clock.pass(1);
  it.socket.fails();
  assert.deepEqual(it.told, ["lost", "waiting 2"]);
});

test("the server says when to come back, once", () => {
  const it = new Setting();
  it.goesLive();
  it.connection.comeBackAfter(10);
  it.socket.fails();
  it.clock.pass(15);
  it.socket.fails();
  assert.deepEqual(it.told, ["lost", "waiting 11", "lost", "waiting 2"]);
});

test("a live connection is probed, and lost when nothing is heard", () => {
  const it = new Setting();
  it.goesLive(30);
  it.clock.pass(30);
  assert.deepEqual(it.socket.sent, ["probe"]);
  it.socket.says("anything");
  it.clock.pass(30);
  assert.deepEqual(it.told, ["text anything"]);
  const dead = it.socket;
  it.clock.pass(SILENCE_SECONDS);
  assert.deepEqual(it.told, ["text anything", "lost", "waiting 1"]);
  assert.equal(dead.closed, true);
  assert.equal(dead.onclose, null, "the dead socket's close, minutes later, must not be heard");
});

test("a connection that does not open in time is given up", () => {
  const it = new Setting();
  it.clock.pass(SILENCE_SECONDS);
  assert.deepEqual(it.told, ["lost", "waiting 1"]);
});

test("to hurry is to connect now, or to probe now", () => {
  const it = new Setting();
  it.socket.fails();
  it.connection.hurry();
  assert.equal(it.sockets.length, 2);
  it.goesLive();
  it.connection.hurry();
  assert.deepEqual(it.socket.sent, ["probe"]);
  it.clock.pass(SILENCE_SECONDS);
  assert.equal(it.told[0], "lost");
});

test("before the session is live nothing is probed: the server would not know us", () => {
  const it = new Setting();
  it.socket.opens();
  it.connection.hurry();
  assert.deepEqual(it.socket.sent, []);
});

test("stopped is stopped", () => {
  const it = new Setting();
  it.goesLive();
  it.connection.stop();
  it.connection.hurry();
  it.connection.send("text");
  it.clock.pass(1000);
  assert.deepEqual([it.told, it.sockets.length], [[], 1]);
});
