/**
 * Where the last messages passed on stood. A log that has lost its end gets some of them again, at new positions: they are known here by
 * sender, device and id, and take their new place instead of being shown twice.
 */

export const MOST_RECENT = 1000;

export class Recent {
  #places = new Map();

  /** The message stands here now. @returns {string | null} where it stood before, if that was elsewhere in its log */
  place({ log, at, from, device, id }) {
    const key = JSON.stringify([log, from, device, id]);
    const was = this.#places.get(key) ?? at;
    this.#places.delete(key);
    this.#places.set(key, at);
    if (this.#places.size > MOST_RECENT) this.#places.delete(this.#places.keys().next().value);
    return was === at || id === "" ? null : was;
  }
}
