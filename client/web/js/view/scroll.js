/**
 * The scrolling of a conversation: it stays at the end while a person is there, and on the line being read otherwise, whatever is put in
 * above or below.
 */

/** So near to the end counts as there, in CSS pixels: a browser may stop half a pixel short. */
const NEAR_END = 48;

/** So near to the start, the next older page is wanted. */
const NEAR_START = 400;

export class Scroll {
  #box;
  #list;
  #atEnd = true;

  /** @param {HTMLElement} box what scrolls @param {HTMLElement} list the lines in it @param {() => void} onMove a person scrolled */
  constructor(box, list, onMove) {
    this.#box = box;
    this.#list = list;
    box.addEventListener("scroll", () => {
      this.#atEnd = this.#distanceToEnd() < NEAR_END;
      onMove();
    }, { passive: true });
    // A keyboard that pops up, or a composer that grows, takes room away at the end.
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(box);
  }

  get atEnd() {
    return this.#atEnd;
  }

  get nearStart() {
    return this.#box.scrollTop < NEAR_START;
  }

  toEnd() {
    this.#atEnd = true;
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  /** Changes the lines, then puts back what was in sight. */
  around(change) {
    const anchor = this.#atEnd ? null : this.#firstInSight();
    const before = anchor?.offsetTop;
    change();
    if (this.#atEnd) this.toEnd();
    else if (anchor?.isConnected) this.#box.scrollTop += anchor.offsetTop - before;
  }

  #firstInSight() {
    const top = this.#box.scrollTop;
    return [...this.#list.children].find((line) => line.offsetTop + line.offsetHeight > top);
  }

  #distanceToEnd() {
    return this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
  }
}
