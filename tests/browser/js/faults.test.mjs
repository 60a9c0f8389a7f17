/**
 * A session, a store and a server that keeps its word, over a line that is cut at any moment: every message is stored once and in order,
 * and seen once and in order, whatever was lost on the way. The cuts are random, and the same in every run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { MemoryReplica } from "../../../client/web/js/memory.js";
import { Outbox } from "../../../client/web/js/outbox.js";
import { comparePositions } from "../../../client/web/js/protocol.js";
import { Session } from "../../../client/web/js/session.js";
import { Store } from "../../../client/web/js/store.js";
import { Clock, said, seeded } from "./world.mjs";

/**
 * Alice's log, and what a server does with it. It forgets message ids quickly, so a client that repeats what was stored is found out. One
 * that tells `prev` in its replies may lose a push unnoticed; one that does not is trusted to notice by itself.
 */
class Server {
  log = [];
  #recent = [];

  constructor(tellsPrev) {
    this.tellsPrev = tellsPrev;
  }

  store(entry) {
    const prev = this.log.at(-1)?.at ?? "0-0";
    const at = `${1000 + this.log.length}-${this.log.length % 3}`;
    this.log.push({ ev: "msg", at, prev, ...entry });
    return { at, ...(this.tellsPrev ? { prev } : {}) };
  }

  takeSend({ id, to, body }) {
    const known = this.#recent.find((each) => each.id === id);
    if (known) return known;
    const ok = { id, ...this.store({ from: "alice", device: "web", to, id, body }) };
    this.#recent = [...this.#recent.slice(-2), ok];
    return ok;
  }

  forgetIds() {
    this.#recent = [];
  }

  answer(frame) {
    const at = this.log.at(-1)?.at ?? "0-0";
    if (frame.op === "login") return [{ re: frame.ref, ok: { token: "T", at } }, ...this.#after(frame.since), { ev: "synced", at }];
    if (frame.op === "send") return [{ re: frame.ref, ok: this.takeSend(frame) }];
    return frame.ref ? [{ re: frame.ref, ok: {} }] : [];
  }

  #after(since) {
    return this.log.filter(({ at }) => comparePositions(at, since) > 0);
  }
}

/** The line between the two: frames queue up both ways, and a cut loses what has not arrived. */
class Line {
  toServer = [];
  toClient = [];
  clock = new Clock();
  stale = false;
  #isPushedTo = false;
  #ids = 0;

  constructor(server) {
    this.server = server;
    this.outbox = new Outbox();
    this.store = new Store({ me: "alice", replica: new MemoryReplica("alice"), onChange: () => {}, onKept: (kept) => this.session.kept(kept), onBroken: assert.fail });
    this.seen = [];
    const account = { user: "alice", device: "web" };
    this.session = new Session({ account, credentials: { token: "T" }, cursors: new Map(), outbox: this.outbox, ports: this.#ports });
  }

  #ports = {
    write: (frame) => this.toServer.push(frame),
    emit: (event) => this.#heard(event),
    after: (...timer) => this.clock.after(...timer),
    now: () => 0,
    random: () => 0,
    newId: () => `w${(this.#ids += 1)}`,
  };

  #heard(event) {
    if (event.type === "message" && this.store.message(event.message)) this.seen.push(event.message.at);
    if (event.type === "cursor") this.store.cursor(event.log, event.at);
    if (event.type === "stale") this.stale = true;
    if (event.type === "hole") assert.fail("nothing is missing from this log");
  }

  cut() {
    this.toServer = [];
    this.toClient = [];
    this.stale = this.#isPushedTo = false;
    this.session.lost();
    this.session.opened();
  }

  /** One frame arrives at one of the two. */
  step(random) {
    if (this.stale) return this.cut();
    if (random() < 0.5 && this.toServer.length > 0) this.#serve(this.toServer.shift());
    else if (this.toClient.length > 0) this.session.received(said(this.toClient.shift()));
    return undefined;
  }

  #serve(frame) {
    this.toClient.push(...this.server.answer(frame));
    this.#isPushedTo ||= frame.op === "login";
  }

  /** Somebody writes to alice; the push sometimes gets lost, as a server that lost its hint would. */
  bobWrites(n, lost) {
    this.server.store({ from: "bob", device: "desk", to: "alice", id: `b${n}`, body: `b${n}` });
    if (!lost && this.#isPushedTo) this.toClient.push(this.server.log.at(-1));
  }

  get isQuiet() {
    return this.toServer.length + this.toClient.length + this.outbox.size === 0 && this.session.stage === "live" && !this.stale;
  }
}

function act(line, random, n) {
  const dice = random();
  if (dice < 0.05) line.cut();
  else if (dice < 0.07) line.server.forgetIds();
  else if (dice < 0.2) line.bobWrites(n, line.server.tellsPrev && random() < 0.1);
  else if (dice < 0.35) line.session.send(random() < 0.8 ? "bob" : "carol", `a${n}`);
  else line.step(random);
}

function settle(line) {
  line.cut();
  for (let steps = 0; !line.isQuiet; steps += 1) {
    assert.ok(steps < 10_000, "it never comes to rest");
    line.step(() => steps % 2);
  }
}

for (let seed = 1; seed <= 60; seed += 1) {
  test(`cut at random, nothing is lost, doubled or out of order (${seed})`, async () => {
    const random = seeded(seed);
    const server = new Server(seed % 2 === 0);
    const line = new Line(server);
    for (const partner of ["bob", "carol"]) await line.store.open(partner, async () => ({ messages: [], more: false }));
    line.session.opened();
    for (let n = 0; n < 600; n += 1) act(line, random, n);
    settle(line);
    const bodies = (partner) => server.log.filter(({ from, to }) => from === "alice" && to === partner).map(({ body }) => Number(body.slice(1)));
    for (const partner of ["bob", "carol"]) {
      const stored = bodies(partner);
      assert.deepEqual(stored, [...new Set(stored)].sort((a, b) => a - b), `stored for ${partner}`);
    }
    assert.deepEqual([...line.seen].sort(comparePositions), server.log.map(({ at }) => at), "each seen once");
    for (const partner of ["bob", "carol"]) {
      const shown = line.store.conversations.get(partner).messages.map(({ body }) => body);
      assert.deepEqual(shown, server.log.filter(({ from, to }) => [from, to].includes(partner)).map(({ body }) => body), `shown of ${partner}`);
    }
  });
}
