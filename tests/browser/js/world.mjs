/** What the pure modules need of a world, under the test's control: a clock that stands still until it is moved, ports that write down. */

import { decode } from "../../../client/web/js/protocol.js";

/** Time in seconds from an arbitrary start; timers run only in `pass`. */
export class Clock {
  #now = 1_000_000;
  #timers = new Map();
  #last = 0;

  now = () => this.#now * 1000;

  after = (seconds, act) => {
    const key = (this.#last += 1);
    this.#timers.set(key, { due: this.#now + seconds, act });
    return () => this.#timers.delete(key);
  };

  /** Lets so much time pass; what falls due runs at its time, in order. */
  pass(seconds) {
    const end = this.#now + seconds;
    for (let next = this.#next(end); next; next = this.#next(end)) {
      const [key, { due, act }] = next;
      this.#timers.delete(key);
      this.#now = due;
      act();
    }
    this.#now = end;
  }

  #next(end) {
    const due = [...this.#timers].filter(([, timer]) => timer.due <= end);
    return due.sort(([, a], [, b]) => a.due - b.due)[0];
  }
}

/** A session's ports: frames and events are written down until they are taken. */
export class Ports {
  frames = [];
  events = [];
  #ids = 0;

  constructor(clock) {
    this.after = clock.after;
    this.now = clock.now;
  }

  write = (frame) => this.frames.push(frame);
  emit = (event) => this.events.push(event);
  random = () => 0;
  newId = () => `id${(this.#ids += 1)}`;

  takeFrames() {
    return this.frames.splice(0);
  }

  takeEvents(type) {
    const taken = this.events.filter((event) => type === undefined || event.type === type);
    this.events = this.events.filter((event) => !taken.includes(event));
    return taken;
  }
}

/** What a session is given for a frame the server sends. */
export function said(frame) {
  return decode(JSON.stringify(frame));
}

/** An entry with a message, as the server pushes it. */
export function msg(at, prev, more = {}) {
  return { ev: "msg", at, prev, from: "bob", device: "desk", to: "alice", id: `m${at}`, body: `body ${at}`, ...more };
}

/** Random numbers that are the same in every run. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
