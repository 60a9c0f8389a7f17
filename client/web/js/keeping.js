/**
 * Writes to the replica behind the store's back: what comes while a write is under way goes into the next one, so a long backlog costs few
 * transactions. The order of changes is the order of writes, and a cursor is in the same batch as what it stands for, or in a later one.
 *
 * After a write that failed nothing more is written: a later cursor would promise what was never kept. The page goes on from memory, and
 * after a reload the logs are read again from the last cursor that was kept.
 */

export class Keeping {
  #replica;
  #device = "";
  #onKept;
  #onBroken;
  #batch = emptyBatch();
  #writing = null;
  #broken = false;

  /**
   * @param {import("./replica.js").Replica} replica
   * @param {(cursors: Map<string, string>) => void} onKept these cursors, and all before them, have been kept
   * @param {(error: Error) => void} onBroken called once: nothing is kept from now on
   */
  constructor(replica, onKept, onBroken) {
    this.#replica = replica;
    this.#onKept = onKept;
    this.#onBroken = onBroken;
  }

  /** Outbox items are kept under this device. */
  for(device) {
    this.#device = device;
  }

  message(message) {
    this.#put((batch) => batch.messages.push(message));
  }

  /** The message stands no longer at `was`. */
  moved(message, was) {
    this.#put((batch) => {
      batch.gone.push({ with: message.with, at: was });
      batch.messages.push(message);
    });
  }

  record(record) {
    this.#put((batch) => batch.records.set(record.with, { ...record }));
  }

  cursor(log, at) {
    this.#put((batch) => batch.cursors.set(log, at));
  }

  /** @param {object | null} item null: it has left the outbox */
  outbox(id, item) {
    this.#put((batch) => batch.outbox.set(id, item && { ...item }));
  }

  /** Resolves when everything put so far has been kept, or will never be. */
  async flush() {
    while (this.#writing) await this.#writing;
  }

  #put(put) {
    if (this.#broken) return;
    put(this.#batch);
    this.#writing ??= this.#write();
  }

  async #write() {
    // What comes in one turn, a reply's message and the outbox item it settles, goes into one transaction.
    await null;
    try {
      while (!isEmpty(this.#batch)) await this.#writeOne();
    } catch (error) {
      this.#broken = true;
      this.#onBroken(error);
    }
    this.#writing = null;
  }

  async #writeOne() {
    const batch = this.#batch;
    this.#batch = emptyBatch();
    await this.#replica.write({ ...batch, device: this.#device });
    if (batch.cursors.size > 0) this.#onKept(batch.cursors);
  }
}

function emptyBatch() {
  return { messages: [], gone: [], records: new Map(), cursors: new Map(), outbox: new Map() };
}

function isEmpty({ messages, records, cursors, outbox }) {
  return messages.length + records.size + cursors.size + outbox.size === 0;
}
