/** Requests that wait for their answer: `ref` tells which answer is whose, since answers may overtake one another. */

/** A request unanswered for so long means that the connection is not worth keeping. */
export const REPLY_SECONDS = 30;

/** The connection went away before the answer: the outcome is not known. */
export class Lost extends Error {}

export class Asking {
  #ports;
  #onSilence;
  #lastRef = 0;
  #waiting = new Map();

  /**
   * @param {{write: (frame: object) => void, after: (seconds: number, act: () => void) => () => void}} ports
   * @param {(op: string) => void} onSilence a request was not answered in `REPLY_SECONDS`; it goes on waiting until `lost`
   */
  constructor(ports, onSilence) {
    this.#ports = ports;
    this.#onSilence = onSilence;
  }

  /** Sends the request; exactly one of the two is called, once: `onError` with a `RequestError` or with `Lost`. */
  ask(frame, onOk, onError) {
    const ref = (this.#lastRef += 1);
    const cancel = this.#ports.after(REPLY_SECONDS, () => this.#onSilence(frame.op));
    this.#waiting.set(ref, { onOk, onError, cancel });
    this.#ports.write({ ...frame, ref });
  }

  ok(ref, ok) {
    this.#take(ref)?.onOk(ok);
  }

  error(ref, error) {
    this.#take(ref)?.onError(error);
  }

  /** No answer will come any more. */
  lost() {
    const left = [...this.#waiting.keys()];
    for (const ref of left) this.error(ref, new Lost("the connection was lost before the answer"));
  }

  #take(ref) {
    const request = this.#waiting.get(ref);
    this.#waiting.delete(ref);
    request?.cancel();
    return request;
  }
}
