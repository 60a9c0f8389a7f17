/**
 * Empties the outbox into a live session, and decides what an answer means for a message: stored, to be repeated with its id, or refused.
 *
 * A refusal that passes (rate, overload, a store out of reach) holds back all sends until its wait is over: the reason is seldom the one
 * message, and a client that goes on asking is part of the reason.
 */

import { Lost } from "./asking.js";
import { encode, requests, RequestError, sizeOf } from "./protocol.js";

/** The wait before a repetition: what the server names, or the first; doubled with every refusal in a row, up to the last. */
const REPEAT_SECONDS = { first: 1, last: 30 };

/** Room for `,"ref":` and its number, which are not part of the request when its size is looked at. */
const REF_BYTES = 32;

export class Sending {
  #outbox;
  #asking;
  #ports;
  #on;
  #ready = false;
  #maxFrame = 65536;
  #refusals = 0;
  #cancelRepeat = null;

  /**
   * @param {import("./outbox.js").Outbox} outbox
   * @param {import("./asking.js").Asking} asking
   * @param {object} ports the session's
   * @param {{stored: (item: object, ok: object) => void, changed: (item: object) => void, loggedOut: () => void}} on
   *   `stored` must take the item out of the outbox
   */
  constructor(outbox, asking, ports, on) {
    this.#outbox = outbox;
    this.#asking = asking;
    this.#ports = ports;
    this.#on = on;
  }

  /** The session is live: what waits may go. @param {number} maxFrame bytes */
  start(maxFrame) {
    this.#ready = true;
    this.#maxFrame = maxFrame;
    this.flush();
  }

  /** The store may have lost what was confirmed lately: that goes first, once the server knows that it comes. */
  resend(seconds) {
    this.#cancelRepeat?.();
    this.#cancelRepeat = null;
    this.#outbox.resend(seconds, this.#ports.now());
    this.#ports.write(requests.resend());
    this.flush();
  }

  /** The session is not live any more; what was flying is to be repeated. */
  stop() {
    this.#ready = false;
    this.#cancelRepeat?.();
    this.#cancelRepeat = null;
    this.#outbox.interrupted();
  }

  /** Sends all that may be sent now. */
  flush() {
    if (!this.#ready || this.#cancelRepeat) return;
    for (const item of this.#outbox.due()) this.#send(item);
  }

  #send(item) {
    const frame = requests.send(item.id, item.to, item.body, item.again);
    // The server would end the session over an oversized frame, and the outbox would bring the same frame again.
    if (sizeOf(encode(frame)) + REF_BYTES > this.#maxFrame) {
      this.#refuse(item, new RequestError("too-large", ""));
      return;
    }
    item.state = "flying";
    const attempt = (item.attempt ?? 0) + 1;
    item.attempt = attempt;
    // The refusal of an earlier attempt says nothing of the one under way.
    const onError = (error) => item.attempt === attempt && this.#notStored(item, error);
    this.#asking.ask(frame, (ok) => this.#stored(item, ok), onError);
  }

  #stored(item, ok) {
    this.#refusals = 0;
    this.#on.stored(item, ok);
    this.flush();
  }

  #notStored(item, error) {
    if (error instanceof Lost) return;
    if (error.passing) this.#repeatLater(item, error);
    else if (error.code === "not-logged-in") this.#on.loggedOut();
    else this.#refuse(item, error);
  }

  #repeatLater(item, error) {
    item.state = "waiting";
    if (error.code === "unavailable") item.again = true;
    const first = error.retry ?? REPEAT_SECONDS.first;
    const wait = Math.max(first, Math.min(REPEAT_SECONDS.last, first * 2 ** this.#refusals));
    this.#refusals += 1;
    this.#cancelRepeat?.();
    // Whatever made the server refuse this one made it refuse many, which should not all be back at once.
    this.#cancelRepeat = this.#ports.after(wait * (1 + this.#ports.random() / 2), () => {
      this.#cancelRepeat = null;
      this.flush();
    });
  }

  #refuse(item, error) {
    Object.assign(item, { state: "failed", code: error.code, text: error.message });
    this.#on.changed(item);
    this.flush();
  }
}
