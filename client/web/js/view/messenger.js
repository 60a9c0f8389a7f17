/** The page while somebody is signed in: the list beside the open conversation, under a banner. Which one is open stands in the address. */

import { BannerView, bannerOf } from "./banner.js";
import { hasExpired, isGroup } from "../protocol.js";
import { bodyText } from "./format.js";
import { announcementOf } from "./message.js";
import { PeopleView } from "./people.js";
import { SidebarView } from "./sidebar.js";
import { ThreadView } from "./thread.js";

/** How often what depends on the time alone is drawn again: a countdown or a typing notice, and else the day changing at midnight. */
const REDRAW_MS = { soon: 1000, late: 60_000 };

export class MessengerView {
  #root;
  #announcer;
  #banner;
  #sidebar;
  #people;
  #thread;
  #client = null;
  #store = null;
  #device = "";
  #current = null;
  #timer = null;

  /** Whether the replica can keep nothing more. */
  broken = false;

  /** @param {HTMLElement} root @param {HTMLElement} announcer @param {() => void} onSignOut */
  constructor(root, announcer, onSignOut) {
    this.#root = root;
    this.#announcer = announcer;
    this.#banner = new BannerView(root.querySelector(".banner"), () => this.#client?.hurry());
    this.#sidebar = new SidebarView(root.querySelector(".sidebar"), (partner) => this.#open(partner), onSignOut);
    this.#people = new PeopleView(root.querySelector(".sidebar"), this.#peopleActions);
    this.#thread = new ThreadView(root.querySelector(".thread"), this.#threadActions);
    for (const event of ["focus", "online", "offline"]) window.addEventListener(event, () => this.changed());
    window.addEventListener("hashchange", () => this.#follow());
  }

  /** @param {import("../seat.js").Seat} seat @param {import("../client.js").Client} client */
  show(seat, client) {
    this.#client = client;
    this.#store = seat.store;
    this.#device = seat.device;
    this.broken = false;
    this.#root.hidden = false;
    this.#follow();
    if (this.#current === null) this.#sidebar.focusNew();
    this.changed();
  }

  hide() {
    this.#root.hidden = true;
    this.#client = this.#store = this.#current = null;
    this.#thread.render(null, { items: [], reader: {}, live: false });
    this.#thread.forget();
    document.title = "imserver";
  }

  /** Something that is shown may have changed. Drawn once for all that changes in one turn; a timer, since a hidden page draws no frames. */
  changed(wait = 0) {
    if (this.#timer?.wait === 0) return;
    clearTimeout(this.#timer?.id);
    this.#timer = { wait, id: setTimeout(() => this.#render(), wait) };
  }

  /** A message of somebody else came in just now. */
  announce(message) {
    this.#announcer.textContent = announcementOf(message, bodyText(message.body));
  }

  // ---- drawing ----

  #render() {
    clearTimeout(this.#timer?.id);
    this.#timer = null;
    if (this.#client === null) return;
    const now = Date.now();
    this.#store.expire(now).catch(() => {}); // where the replica is broken the banner has said so
    this.#markRead();
    this.#renderBanner(now);
    this.#renderConversations(now);
    this.#renderThread(now);
    document.title = titleOf(this.#store.unread, this.#current);
    this.changed(this.#isRestless(now) ? REDRAW_MS.soon : REDRAW_MS.late);
  }

  #renderBanner(now) {
    this.#banner.render(bannerOf(this.#client.link, { online: navigator.onLine, broken: this.broken, now }));
  }

  #renderConversations(now) {
    this.#root.dataset.showing = this.#current === null ? "list" : "thread";
    const unsentTo = (partner) => this.#client.outbox.to(partner).at(-1);
    const { people } = this.#client;
    const conversations = this.#store.sorted.map((each) => {
      return { ...each, unsent: unsentTo(each.record.with), show: people.of(each.record.with).show };
    });
    this.#people.render({ people, show: this.#client.show });
    this.#sidebar.render({ me: this.#client.user, conversations, current: this.#current, now });
  }

  #renderThread(now) {
    const conversation = this.#current === null ? null : this.#store.conversation(this.#current);
    const items = conversation ? this.#client.outbox.to(this.#current) : [];
    const reader = { me: this.#client.user, device: this.#device, now };
    const partner = this.#current === null || isGroup(this.#current) ? null : this.#client.people.of(this.#current);
    this.#thread.render(conversation, { items, reader, live: this.#client.link.stage === "live", partner });
  }

  #isRestless(now) {
    const vanishesSoon = (message) => hasExpired(message, now + REDRAW_MS.late);
    const changes = ({ typingUntil, messages, last }) => typingUntil > now || [...messages, last].some(vanishesSoon);
    return this.#client.link.stage !== "live" || this.#store.sorted.some(changes);
  }

  /** Seen is what a person could see: the conversation is open, at its end, in a window that has the focus. */
  #markRead() {
    if (this.#current !== null && this.#thread.atEnd && document.hasFocus()) this.#client.markRead(this.#current);
  }

  // ---- the open conversation ----

  #open(partner) {
    location.hash = partner === null ? "" : `/${encodeURIComponent(partner)}`;
    this.#follow();
    // What is to have the focus must be shown first.
    this.#render();
    if (partner !== null) this.#thread.focus();
  }

  #follow() {
    const partner = partnerIn(location.hash);
    if (this.#client === null || partner === this.#current) return;
    if (this.#current !== null) this.#client.close(this.#current);
    this.#current = partner;
    // Without a connection the replica's part is shown; the thread asks for the rest when there is one.
    if (partner !== null) this.#client.open(partner);
    this.changed();
  }

  #peopleActions = {
    onOpen: (user) => this.#open(user),
    onAnswer: (action, user) => this.#client.contact(action, user),
    onShow: (show) => this.#client.present(show),
  };

  #threadActions = {
    onAdd: (partner) => this.#client.contact("add", partner),
    onSend: (partner, text) => this.#client.send(partner, text),
    onTyping: (partner, on) => this.#client.typing(partner, on),
    onOlder: (partner) => this.#client.older(partner),
    onRetry: (id) => this.#client.retry(id),
    onDiscard: (id) => this.#client.discard(id),
    onBack: () => this.#open(null),
    onMove: () => this.changed(),
  };
}

function partnerIn(hash) {
  if (!hash.startsWith("#/") || hash.length === 2) return null;
  try {
    return decodeURIComponent(hash.slice(2));
  } catch {
    // A hand-made address; the list is as good an answer as any.
    return null;
  }
}

function titleOf(unread, partner) {
  const count = unread > 0 ? `(${unread}) ` : "";
  return `${count}${partner ? `${partner} - ` : ""}imserver`;
}
