/**
 * Whom this user knows, and what they show: a pure record of what the server has told.
 *
 * A new connection is told of everybody who is there, so until then nobody is; contacts are read anew with each connection, and kept in
 * step by what the log says.
 */

export class People {
  /** @type {Map<string, import("./protocol.js").Contact>} */
  #contacts = new Map();
  #presence = new Map();

  /** All that there is. @param {import("./protocol.js").Contact[]} contacts */
  read(contacts) {
    this.#contacts = new Map();
    for (const contact of contacts) this.changed(contact);
  }

  /** @param {import("./protocol.js").Contact} contact */
  changed(contact) {
    if (contact.state === "none" && !contact.blocked) this.#contacts.delete(contact.user);
    else this.#contacts.set(contact.user, contact);
  }

  /** @param {{user: string, show: string, status: string}} presence */
  shows(presence) {
    this.#presence.set(presence.user, presence);
  }

  disconnected() {
    this.#presence.clear();
  }

  /** Who asks to become a contact. */
  get requests() {
    return this.#sorted(({ state, blocked }) => state === "asking" && !blocked);
  }

  /** Contacts, those who are there first. */
  get contacts() {
    const isAway = (contact) => Number(contact.show === "offline");
    return this.#sorted(({ state, blocked }) => state === "mutual" && !blocked).sort((a, b) => isAway(a) - isAway(b));
  }

  /** How this user stands to another one: a contact with `show` and `status`; `show` is empty where it is not to be seen. */
  of(user) {
    const contact = this.#contacts.get(user) ?? { user, state: "none", blocked: false };
    if (contact.state !== "mutual" || contact.blocked) return { ...contact, show: "", status: "" };
    const { show = "offline", status = "" } = this.#presence.get(user) ?? {};
    return { ...contact, show, status };
  }

  #sorted(wanted) {
    const users = [...this.#contacts.values()].filter(wanted).map(({ user }) => user);
    return users.sort().map((user) => this.of(user));
  }
}
