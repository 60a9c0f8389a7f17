/** A user's place in this tab: the replica, the store over it, and the device name this tab holds. */

import { claim } from "./accounts.js";
import { MemoryReplica } from "./memory.js";
import { openReplica } from "./replica.js";
import { Store } from "./store.js";

export class Seat {
  device = "";
  #replica;
  #kept;
  #release = () => {};

  /** @param {{onChange: () => void, onKept: (cursors: Map<string, string>) => void, onBroken: (error: Error) => void}} hooks the store's */
  static async open(user, hooks) {
    // Some private windows keep nothing for a page; everything works there too, until the page is left.
    const replica = await openReplica(user).catch(() => new MemoryReplica(user));
    const store = new Store({ me: user, replica, ...hooks });
    return new Seat(user, replica, store, await store.load());
  }

  constructor(user, replica, store, kept) {
    this.user = user;
    this.store = store;
    this.#replica = replica;
    this.#kept = kept;
  }

  /** @returns {Map<string, string>} log to the position up to which the replica has it */
  get cursors() {
    return this.#kept.cursors;
  }

  /** @returns {Map<string, object[]>} device to what it has still to send */
  get outboxes() {
    return this.#kept.outboxes;
  }

  /** What the device held here has still to send. */
  get items() {
    return this.outboxes.get(this.device) ?? [];
  }

  /**
   * Takes the first of these device names that no other tab holds.
   * @param {string[]} devices best first
   * @param {{steal?: boolean, onStolen: () => void}} options `steal`: the first one, whoever holds it
   * @returns {Promise<boolean>} false where all are held
   */
  async hold(devices, options) {
    for (const device of devices) {
      const release = await claim(this.user, device, options);
      if (release) return this.#held(device, release);
    }
    return false;
  }

  /** Another tab may have the device name now; what is kept stays. */
  async leave() {
    await this.store.flush();
    this.#replica.close();
    this.#release();
  }

  /** Forgets everything this browser kept for the user. */
  async erase() {
    await this.store.flush();
    await this.#replica.erase();
    await this.leave();
  }

  #held(device, release) {
    this.device = device;
    this.#release = release;
    this.store.useDevice(device);
    return true;
  }
}
