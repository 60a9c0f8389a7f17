/** The conversations, the latest first, and the way to a new one. */

import { NameError, parsePartner, timeOf } from "../protocol.js";
import { element, isTouched, reconcile, setAttribute, setText } from "./dom.js";
import { paintAvatar } from "./avatar.js";
import { exactLabel, lineOf, previewOf, shortLabel } from "./format.js";

export class SidebarView {
  #root;
  #list;
  #onOpen;

  /**
   * @param {HTMLElement} root
   * @param {(partner: string) => void} onOpen
   * @param {() => void} onSignOut
   */
  constructor(root, onOpen, onSignOut) {
    this.#root = root;
    this.#list = root.querySelector(".conversations");
    this.#onOpen = onOpen;
    root.querySelector(".sign-out").addEventListener("click", onSignOut);
    root.querySelector(".new").addEventListener("submit", (event) => this.#submit(event));
    this.#list.addEventListener("keydown", (event) => this.#step(event));
  }

  /**
   * @param {object} state
   * @param {string} state.me
   * @param {object[]} state.conversations the store's, in the order shown; with `unsent`, the newest message still in the outbox, and
   *   `show`, what its partner shows
   * @param {string | null} state.current the open one
   * @param {number} state.now
   */
  render({ me, conversations, current, now }) {
    setText(this.#root.querySelector(".me"), me);
    paintAvatar(this.#root.querySelector("header .avatar"), me);
    const rows = conversations.map((conversation) => rowOf(conversation, { me, current, now }));
    reconcile(this.#list, rows, (row) => this.#create(row), update);
    this.#root.querySelector(".empty").hidden = rows.length > 0;
  }

  focusNew() {
    if (!isTouched()) this.#root.querySelector("#partner").focus();
  }

  #create({ key }) {
    const avatar = element("span", { class: "avatar", "aria-hidden": "true" });
    paintAvatar(avatar, key);
    const count = element("span", { class: "count" });
    const unread = element("span", { class: "unread", hidden: "" }, count, element("span", { class: "visually-hidden", text: " unread" }));
    const button = element(
      "button",
      { type: "button" },
      avatar,
      element("span", { class: "name", text: key }),
      element("time"),
      element("span", { class: "preview" }),
      unread,
    );
    button.addEventListener("click", () => this.#onOpen(key));
    return element("li", {}, button);
  }

  #submit(event) {
    event.preventDefault();
    const { partner } = event.target.elements;
    try {
      if (partner.value.trim() !== "") this.#onOpen(parsePartner(partner.value));
      partner.value = "";
      this.#complain("");
    } catch (error) {
      if (!(error instanceof NameError)) throw error;
      this.#complain(error.message);
    }
  }

  #complain(text) {
    setText(this.#root.querySelector(".new .error"), text);
    setAttribute(this.#root.querySelector("#partner"), "aria-invalid", text ? "true" : null);
  }

  /** The arrow keys, Home and End go through the list; Enter and space are the button's own. */
  #step(event) {
    const buttons = [...this.#list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const target = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (target === undefined || !buttons[target]) return;
    event.preventDefault();
    buttons[target].focus();
  }
}

function rowOf({ record, last, unsent, unread, typingUntil, show }, { me, current, now }) {
  return {
    key: record.with,
    current: record.with === current,
    ...previewRow(last, unsent, typingUntil > now, me),
    time: last ? timeOf(last.at) : null,
    unread,
    show,
    now,
  };
}

function previewRow(last, unsent, typing, me) {
  if (typing) return { preview: "is typing…", mood: "is-typing" };
  if (unsent?.state === "failed") return { preview: `Not sent: ${lineOf(unsent.body)}`, mood: "is-failed" };
  if (unsent) return { preview: `You: ${lineOf(unsent.body)}`, mood: "" };
  return { preview: last ? previewOf(last, me) : "No messages yet", mood: "" };
}

function update(node, row) {
  const button = node.firstElementChild;
  setAttribute(button, "aria-current", row.current ? "true" : null);
  const [avatar, , time, preview, unread] = button.children;
  setAttribute(avatar, "data-show", row.show || null);
  setText(preview, row.preview);
  setAttribute(preview, "class", `preview ${row.mood}`);
  setText(time, row.time === null ? "" : shortLabel(row.time, row.now));
  setAttribute(time, "datetime", row.time === null ? null : new Date(row.time).toISOString());
  setAttribute(time, "title", row.time === null ? null : exactLabel(row.time));
  unread.hidden = row.unread === 0;
  setText(unread.firstElementChild, row.unread > 99 ? "99+" : String(row.unread));
}
