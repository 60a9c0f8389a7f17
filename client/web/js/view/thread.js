/** The open conversation. */

import { paintAvatar } from "./avatar.js";
import { ComposerView } from "./composer.js";
import { reconcile, setAttribute, setText } from "./dom.js";
import { createLine, updateLine } from "./message.js";
import { rowsOf } from "./rows.js";
import { Scroll } from "./scroll.js";
import { standingOf } from "./people.js";

/**
 * @typedef {object} Actions
 * @property {(partner: string, text: string) => void} onSend
 * @property {(partner: string, on: boolean) => void} onTyping
 * @property {(partner: string) => Promise<boolean>} onOlder false where an older page is not to be had now
 * @property {(id: string) => void} onRetry
 * @property {(id: string) => void} onDiscard
 * @property {(partner: string) => void} onAdd asks for a contact
 * @property {() => void} onBack
 * @property {() => void} onMove a person scrolled
 */

export class ThreadView {
  #root;
  #list;
  #scroll;
  #composer;
  #actions;
  #shown = null;
  #lastSeen = null;
  #askedInVain = false;
  #wasLive = false;

  /** @param {HTMLElement} root @param {Actions} actions */
  constructor(root, actions) {
    this.#root = root;
    this.#actions = actions;
    this.#list = root.querySelector(".messages");
    this.#scroll = new Scroll(root.querySelector(".scroll"), this.#list, () => this.#moved());
    this.#composer = new ComposerView(root.querySelector(".composer"), (...sent) => this.#send(...sent), actions.onTyping);
    root.querySelector(".add").addEventListener("click", () => actions.onAdd(this.#shown));
    root.querySelector(".back").addEventListener("click", actions.onBack);
    root.querySelector(".jump").addEventListener("click", () => this.toEnd());
  }

  /** True while the newest message is in sight. */
  get atEnd() {
    return this.#scroll.atEnd;
  }

  /**
   * @param {import("../store.js").Conversation | null} conversation null: none is open
   * @param {object} state
   * @param {import("../outbox.js").Item[]} state.items to this partner
   * @param {{me: string, device: string, now: number}} state.reader
   * @param {boolean} state.live
   * @param {object | null} state.partner as `People.of` gives it; null for a group
   */
  render(conversation, { items, reader, live, partner = null }) {
    this.#root.querySelector(".nothing").hidden = conversation !== null;
    this.#root.querySelector(".conversation").hidden = conversation === null;
    if (conversation?.record.with !== this.#shown) this.#turnTo(conversation?.record.with ?? null);
    if (conversation === null) return;
    const rows = rowsOf(conversation, items, reader);
    this.#renderLines(conversation, rows, live);
    this.#renderJump(rows);
    this.#renderPartner(partner, live);
    setText(this.#root.querySelector(".typing"), conversation.typingUntil > reader.now ? `${this.#shown} is typing…` : "");
    this.#olderIfWanted(conversation, live);
  }

  focus() {
    this.#composer.focus();
  }

  forget() {
    this.#composer.forget();
  }

  toEnd() {
    this.#scroll.toEnd();
    this.#actions.onMove();
  }

  // ---- parts ----

  #turnTo(partner) {
    this.#shown = partner;
    this.#lastSeen = null;
    this.#askedInVain = false;
    this.#list.replaceChildren();
    this.#composer.turnTo(partner);
    this.#scroll.toEnd();
    setText(this.#root.querySelector("h2"), partner ?? "");
    paintAvatar(this.#root.querySelector("header .avatar"), partner);
    setAttribute(this.#root.querySelector(".scroll"), "aria-label", partner && `Messages with ${partner}`);
  }

  #renderLines(conversation, rows, live) {
    this.#scroll.around(() => {
      setText(this.#root.querySelector(".start"), startOf(conversation, rows, live));
      reconcile(this.#list, rows, (row) => createLine(row, this.#actions), updateLine);
    });
  }

  #renderPartner(partner, live) {
    setText(this.#root.querySelector(".standing"), partner === null ? "" : standingOf(partner));
    setAttribute(this.#root.querySelector("header .avatar"), "data-show", partner?.show || null);
    this.#root.querySelector(".add").hidden = partner === null || !live || partner.blocked || partner.state !== "none";
  }

  #renderJump(rows) {
    const messages = rows.filter((row) => row.kind === "message");
    if (this.#scroll.atEnd) this.#lastSeen = messages.at(-1)?.key ?? null;
    const below = messages.slice(messages.findIndex((row) => row.key === this.#lastSeen) + 1).filter((row) => !row.own).length;
    const button = this.#root.querySelector(".jump");
    button.hidden = this.#scroll.atEnd;
    setText(button.querySelector("span"), below === 0 ? "Newest" : `${below} new`);
  }

  #olderIfWanted({ loading, atStart }, live) {
    if (live && !this.#wasLive) this.#askedInVain = false;
    this.#wasLive = live;
    if (loading || atStart || this.#askedInVain || !this.#scroll.nearStart) return;
    this.#askForOlder();
  }

  async #askForOlder() {
    const partner = this.#shown;
    const isAnswered = await this.#actions.onOlder(partner);
    if (partner === this.#shown) this.#askedInVain = !isAnswered;
  }

  #moved() {
    this.#askedInVain = false;
    this.#actions.onMove();
  }

  #send(partner, text) {
    this.#scroll.toEnd();
    this.#actions.onSend(partner, text);
  }
}

/** What stands above the first message. */
function startOf({ atStart, loading }, rows, live) {
  if (atStart) return rows.length === 0 ? "Nothing has been said here yet." : "This is the beginning.";
  if (loading) return "Loading…";
  return live ? "" : "Older messages are shown when there is a connection again.";
}
