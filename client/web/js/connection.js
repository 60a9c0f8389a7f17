/**
 * One WebSocket after another: opened, watched, and opened again with growing, scattered waits until it is stopped.
 *
 * It knows no frames: text goes in and out. A dead connection is noticed by asking: a browser does not show a page the server's WebSocket
 * pings, so every so often the page sends a `probe` of its own and expects to hear anything at all.
 */

/** Waits between attempts, in seconds. The first is short, since most losses are brief, but scattered: everybody lost the same server. */
const WAIT = { first: 1, base: 1, most: 30 };

/** A connection that was live for so long was a good one: the next loss starts with the shortest wait again. */
export const GOOD_SECONDS = 10;

/** Nothing heard for so long after a probe, or not open so long after opening: the connection is dead. */
export const SILENCE_SECONDS = 10;

/**
 * Seconds to wait before the next attempt. The first is scattered as a whole and later ones by half, so that clients that were lost
 * together come back apart; what the server asked for only a little, since it spreads its clients itself.
 *
 * @param {number} failures attempts that failed in a row before this one
 * @param {number} after what the server asked for; never undercut
 * @param {number} random 0 to 1
 */
export function waitBefore(failures, after, random) {
  if (after > 0) return after + random * Math.max(0.5, after / 10);
  if (failures === 0) return random * WAIT.first;
  const most = Math.min(WAIT.most, WAIT.base * 2 ** Math.min(failures, 10));
  return (most * (1 + random)) / 2;
}

export class Connection {
  #open;
  #clock;
  #random;
  #probe;
  #on;
  #socket = null;
  #running = false;
  #failures = 0;
  #after = 0;
  #probeSeconds = 0;
  #timers = { retry: null, good: null, probe: null, silence: null };

  /**
   * @param {object} setup
   * @param {() => WebSocket} setup.open makes a socket that is connecting
   * @param {{after: (seconds: number, act: () => void) => () => void, now: () => number}} setup.clock
   * @param {() => number} setup.random 0 to 1
   * @param {string} setup.probe a text the server answers
   * @param {{opened: () => void, text: (text: string) => void, lost: () => void, waiting: (until: number) => void}} setup.on
   *   `lost` once for every attempt, also for one that never opened; `waiting` with the time of the next attempt
   */
  constructor({ open, clock, random, probe, on }) {
    this.#open = open;
    this.#clock = clock;
    this.#random = random;
    this.#probe = probe;
    this.#on = on;
  }

  start() {
    this.#running = true;
    this.#connect();
  }

  /** No connection any more, and none to come. */
  stop() {
    this.#running = false;
    this.#drop();
  }

  /** Does nothing without an open socket: whoever relies on a text waits for what answers it. */
  send(text) {
    if (this.#socket?.readyState === OPEN) this.#socket.send(text);
  }

  /** This connection is not worth keeping; another one is made as after any loss. */
  renew() {
    if (this.#socket) this.#lose();
  }

  /** The server says when to come back, in seconds; it holds for the next wait. */
  comeBackAfter(seconds) {
    this.#after = seconds;
  }

  /** The session over this connection is live: from now on it is probed every so many seconds. */
  live(probeSeconds) {
    this.#probeSeconds = probeSeconds;
    this.#set("good", GOOD_SECONDS, () => (this.#failures = 0));
    this.#probeLater();
  }

  /** Something suggests that it is worth trying now: the network is back, the page is seen again, a person asks. */
  hurry() {
    if (!this.#running) return;
    if (this.#socket === null) this.#connect();
    else if (this.#probeSeconds > 0) this.#ask();
  }

  // ---- one socket's life ----

  #connect() {
    this.#cancel("retry");
    const socket = (this.#socket = this.#open());
    socket.onopen = () => this.#opened();
    socket.onmessage = (event) => this.#heard(event.data);
    socket.onclose = () => this.#lose();
    this.#set("silence", SILENCE_SECONDS, () => this.#lose());
  }

  #opened() {
    this.#cancel("silence");
    this.#on.opened();
  }

  #heard(text) {
    this.#cancel("silence");
    if (typeof text === "string") this.#on.text(text);
  }

  #lose() {
    this.#drop();
    this.#on.lost();
    if (this.#running) this.#retryLater();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#probeSeconds = 0;
    for (const name of Object.keys(this.#timers)) this.#cancel(name);
    if (!socket) return;
    // A socket over a dead network reports its close only minutes later; it must not speak for its successor then.
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #retryLater() {
    const wait = waitBefore(this.#failures, this.#after, this.#random());
    this.#failures += 1;
    this.#after = 0;
    this.#set("retry", wait, () => this.#connect());
    this.#on.waiting(this.#clock.now() + wait * 1000);
  }

  // ---- watching it ----

  #probeLater() {
    this.#set("probe", this.#probeSeconds, () => this.#ask());
  }

  #ask() {
    this.send(this.#probe);
    this.#set("silence", SILENCE_SECONDS, () => this.#lose());
    this.#probeLater();
  }

  // ---- timers ----

  #set(name, seconds, act) {
    this.#cancel(name);
    this.#timers[name] = this.#clock.after(seconds, act);
  }

  #cancel(name) {
    this.#timers[name]?.();
    this.#timers[name] = null;
  }
}

/** WebSocket.OPEN, where there is no WebSocket to ask. */
const OPEN = 1;
