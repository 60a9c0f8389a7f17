/** Who asks to become a contact, the contacts with what they show, and what this user shows. */

import { element, reconcile, setAttribute, setText } from "./dom.js";
import { paintAvatar } from "./avatar.js";

const WORDS = { online: "online", away: "away", busy: "busy", offline: "offline" };

/**
 * @typedef {object} PeopleActions
 * @property {(user: string) => void} onOpen
 * @property {(action: "accept" | "decline", user: string) => void} onAnswer
 * @property {(show: string) => void} onShow
 */

export class PeopleView {
  #root;
  #show;
  #actions;

  /** @param {HTMLElement} root the sidebar @param {PeopleActions} actions */
  constructor(root, actions) {
    this.#root = root;
    this.#actions = actions;
    this.#show = root.querySelector(".show");
    this.#show.addEventListener("change", () => actions.onShow(this.#show.value));
  }

  /** @param {{people: import("../people.js").People, show: string}} state */
  render({ people, show }) {
    if (document.activeElement !== this.#show) this.#show.value = show;
    const requests = people.requests.map((contact) => ({ key: contact.user, ...contact }));
    const contacts = people.contacts.map((contact) => ({ key: contact.user, ...contact }));
    reconcile(this.#root.querySelector(".requests"), requests, (row) => this.#createRequest(row), updateRequest);
    reconcile(this.#root.querySelector(".contacts"), contacts, (row) => this.#createContact(row), updateContact);
    this.#root.querySelector(".people").hidden = requests.length + contacts.length === 0;
  }

  #createRequest({ user }) {
    const answer = (action, text, kind) => {
      const button = element("button", { type: "button", class: kind, text });
      button.addEventListener("click", () => this.#actions.onAnswer(action, user));
      return button;
    };
    return element(
      "li",
      {},
      element("span", { class: "asks", text: `${user} asks to be your contact` }),
      element("span", { class: "note" }),
      answer("accept", "Accept", "primary"),
      answer("decline", "Decline", "plain"),
    );
  }

  #createContact({ user }) {
    const avatar = element("span", { class: "avatar", "aria-hidden": "true" });
    paintAvatar(avatar, user);
    const button = element("button", { type: "button" }, avatar, element("span", { class: "name", text: user }), element("span", { class: "shows" }));
    button.addEventListener("click", () => this.#actions.onOpen(user));
    return element("li", {}, button);
  }
}

function updateRequest(node, { note }) {
  setText(node.querySelector(".note"), note ?? "");
}

function updateContact(node, contact) {
  const [avatar, name, shows] = node.firstElementChild.children;
  setAttribute(avatar, "data-show", contact.show);
  setText(name, contact.name ?? contact.user);
  setText(shows, standingOf(contact));
}

/** What is said of somebody in words: a dot alone would say nothing to many. */
export function standingOf({ state, blocked, show, status }) {
  if (blocked) return "blocked";
  if (state === "asked") return "asked to be your contact";
  if (state !== "mutual") return "";
  return status ? `${WORDS[show] ?? show}: ${status}` : (WORDS[show] ?? show);
}
