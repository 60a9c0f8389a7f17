/** Where a message is written. What is not sent yet stays with its conversation while others are looked at. */

import { isTouched } from "./dom.js";

/** A typing notice is renewed at most so often; the receiver lets it expire after 6 seconds. */
const TYPING_EVERY_MS = 4000;

export class ComposerView {
  #form;
  #text;
  #partner = null;
  #drafts = new Map();
  #onSend;
  #onTyping;
  #typedAt = 0;

  /**
   * @param {HTMLFormElement} form
   * @param {(partner: string, text: string) => void} onSend
   * @param {(partner: string, on: boolean) => void} onTyping
   */
  constructor(form, onSend, onTyping) {
    this.#form = form;
    this.#text = form.elements.text;
    this.#onSend = onSend;
    this.#onTyping = onTyping;
    form.addEventListener("submit", (event) => this.#submit(event));
    this.#text.addEventListener("keydown", (event) => this.#key(event));
    this.#text.addEventListener("input", () => this.#typed());
  }

  /** Writing goes to this partner now; null: to nobody. */
  turnTo(partner) {
    if (partner === this.#partner) return;
    if (this.#partner !== null) this.#drafts.set(this.#partner, this.#text.value);
    this.#partner = partner;
    this.#typedAt = 0;
    this.#write(this.#drafts.get(partner) ?? "");
    this.#text.placeholder = partner ? `Message to ${partner}` : "Message";
  }

  /** Nothing of one user is left for the next. */
  forget() {
    this.#partner = null;
    this.#drafts.clear();
    this.#write("");
  }

  /** Where a keyboard would pop up and cover the conversation, the focus is left to the person. */
  focus() {
    if (!isTouched()) this.#text.focus();
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#text.value.trim();
    if (text === "" || this.#partner === null) return;
    this.#typedAt = 0;
    this.#write("");
    this.#onSend(this.#partner, text);
    this.#text.focus();
  }

  /** Where the keyboard is on the screen, Enter makes a new line, as in every other app there. */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouched()) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #typed() {
    this.#fit();
    const now = Date.now();
    const on = this.#text.value !== "";
    if (on && now - this.#typedAt < TYPING_EVERY_MS) return;
    if (on || this.#typedAt > 0) this.#onTyping(this.#partner, on);
    this.#typedAt = on ? now : 0;
  }

  #write(text) {
    this.#text.value = text;
    this.#fit();
  }

  /** As high as the text, up to the height the style sheet allows. */
  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }
}
