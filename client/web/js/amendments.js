/**
 * Edits, deletions and reactions, put together with the messages they are about, in whatever order the two become known. Pure.
 *
 * Of edits, and of one user's reactions, the one with the greatest stamp counts; a deletion counts for ever.
 */

/**
 * @typedef {{log: string, kind: "edit" | "delete" | "reaction", of: {from: string, device: string, id: string}, from: string, to: string,
 *   device: string, id: string, stamp: number, body?: unknown, emoji: string | null}} Amendment
 */

/** What names a message, the same for everybody. @param {{from: string, device: string, id: string}} message */
export function nameOf({ from, device, id }) {
  return `${from}/${device}/${id}`;
}

/** @param {object} message @param {Amendment} amendment @returns {object} the message as it is now; the same object where nothing changes */
export function amended(message, amendment) {
  if (message.deleted) return message;
  const { kind, stamp, device, id, from, body, emoji } = amendment;
  const what = { stamp, device, id };
  if (kind === "delete") return { ...message, body: "", edited: undefined, reactions: undefined, reply: undefined, deleted: true };
  if (kind === "edit") return isNewer(what, message.edited) ? { ...message, edited: { ...what, body } } : message;
  const reactions = message.reactions ?? {};
  return isNewer(what, reactions[from]) ? { ...message, reactions: { ...reactions, [from]: { ...what, emoji } } } : message;
}

function isNewer(one, other) {
  if (!other) return true;
  if (one.stamp !== other.stamp) return one.stamp > other.stamp;
  return one.device === other.device ? one.id > other.id : one.device > other.device;
}

/** What the message says now. */
export function bodyOf(message) {
  return message.edited ? message.edited.body : message.body;
}

/** The emojis that are said to it now, each with how often where that is more than once; empty where there are none. */
export function reactionsOf(message) {
  const counts = new Map();
  for (const { emoji } of Object.values(message.reactions ?? {})) if (emoji) counts.set(emoji, (counts.get(emoji) ?? 0) + 1);
  return [...counts].map(([emoji, count]) => (count > 1 ? `${emoji} ${count}` : emoji)).join("  ");
}

/** Amendments of messages that are not here (yet): an older page of the history may have them. */
export class Waiting {
  #byName = new Map();

  /** @param {Amendment} amendment */
  add(amendment) {
    const name = nameOf(amendment.of);
    this.#byName.set(name, [...(this.#byName.get(name) ?? []), amendment]);
  }

  /** @returns {object} the message, with what has waited for it */
  apply(message) {
    return (this.#byName.get(nameOf(message)) ?? []).reduce(amended, message);
  }
}
