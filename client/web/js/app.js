/**
 * The page: who is signed in in this tab, and what leads there and away.
 *
 *     sign-in page ── password ──▶ messenger ── sign out, token refused ──▶ sign-in page
 *     start ── token and a free device name ──▶ messenger ── replaced by another tab ──▶ "use it here?"
 */

import { Accounts, newDevice } from "./accounts.js";
import { Client } from "./client.js";
import { Seat } from "./seat.js";
import { whyEnded, whyNotSignedIn } from "./view/format.js";
import { MessengerView } from "./view/messenger.js";
import { QuestionView } from "./view/question.js";
import { SignInView } from "./view/sign-in.js";

class App {
  #accounts = new Accounts(localStorage, sessionStorage);
  #signInView;
  #messenger;
  #question;
  #seat = null;
  #client = null;
  #entered = false;

  constructor() {
    const part = (id) => document.getElementById(id);
    this.#question = new QuestionView(part("question"));
    this.#messenger = new MessengerView(part("messenger"), part("announcer"), () => this.#signOut());
    this.#signInView = new SignInView(part("sign-in"), (entered) => this.#signIn(entered), (user) => this.#resume(user, true));
    window.addEventListener("storage", () => this.#followOtherTabs());
    for (const event of ["online", "pageshow"]) window.addEventListener(event, () => this.#client?.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#client?.hurry());
  }

  start() {
    const { user } = this.#accounts;
    if (user === null) this.#signInView.show();
    else this.#resume(user, false);
  }

  // ---- in ----

  /** @param {boolean} steal take the session from the tab that has it */
  async #resume(user, steal) {
    const seat = await this.#openSeat(user);
    const devices = this.#accounts.preferred(user, seat.outboxes).filter(({ token }) => token !== "");
    if (await this.#hold(seat, devices, steal)) {
      const { token } = devices.find(({ device }) => device === seat.device);
      this.#run(seat, { token });
      this.#enter();
    } else {
      await seat.leave();
      this.#signInView.show({ user, elsewhere: devices.length > 0 });
    }
  }

  async #signIn({ user, password, register }) {
    const seat = await this.#openSeat(user);
    const devices = [...this.#accounts.preferred(user, seat.outboxes), { device: newDevice() }];
    await this.#hold(seat, devices, false);
    this.#run(seat, { password, register });
  }

  #openSeat(user) {
    return Seat.open(user, {
      onChange: () => this.#messenger.changed(),
      onKept: (cursors) => this.#client?.kept(cursors),
      onBroken: (error) => this.#broken(error),
    });
  }

  #hold(seat, devices, steal) {
    const onStolen = () => this.#seat === seat && this.#ended({ code: "replaced", text: "" });
    return seat.hold(devices.map(({ device }) => device), { steal, onStolen });
  }

  #run(seat, credentials) {
    this.#seat = seat;
    const { user, device, cursors, items, store } = seat;
    this.#client = new Client({ account: { user, device }, credentials, cursors, items, store, url: socketUrl(), on: this.#clientEvents });
    this.#client.start();
  }

  #enter() {
    this.#entered = true;
    this.#signInView.hide();
    this.#question.close();
    this.#messenger.show(this.#seat, this.#client);
  }

  // ---- what the client tells ----

  #clientEvents = {
    change: () => this.#linkChanged(),
    welcome: (token) => this.#welcomed(token),
    refused: (error) => this.#refused(error),
    ended: (bye) => this.#ended(bye),
    arrived: (message) => this.#messenger.announce(message),
  };

  /** Somebody who has just typed a password waits for an answer now; a session that was there once waits for the server. */
  #linkChanged() {
    this.#messenger.changed();
    if (this.#entered || !this.#client?.link.retryAt) return;
    this.#leave();
    this.#signInView.fail("The server cannot be reached. Please try again in a moment.");
  }

  #welcomed(token) {
    this.#accounts.remember(this.#seat.user, this.#seat.device, token);
    if (!this.#entered) this.#enter();
  }

  #refused(error) {
    const { user, device } = this.#seat;
    const entered = this.#entered;
    if (entered) this.#accounts.remember(user, device, "");
    this.#leave();
    this.#signInView.show({ user, error: whyNotSignedIn(entered ? { ...error, code: "expired-token" } : error) });
  }

  async #ended(bye) {
    const { user } = this.#seat;
    const entered = this.#entered;
    if (bye.code === "revoked") this.#accounts.remember(user, this.#seat.device, "");
    this.#leave();
    if (bye.code === "revoked" || !entered) return this.#signInView.show({ user, error: whyEnded(bye) });
    const again = await this.#question.ask(questionAfter(bye));
    return again ? this.#resume(user, true) : this.#signInView.show();
  }

  #broken(error) {
    console.warn("imserver: nothing can be kept in this browser", error);
    this.#messenger.broken = true;
    this.#messenger.changed();
  }

  // ---- out ----

  async #signOut() {
    const { unsent } = this.#client.outbox;
    if (unsent > 0 && !(await this.#question.ask(questionAbout(unsent)))) return;
    this.#accounts.signOut(this.#seat.user);
    this.#client.signOut();
    this.#forget();
  }

  /** Signing out in one tab is signing out in all: what this browser kept is gone. */
  #followOtherTabs() {
    if (!this.#entered) return;
    const mine = this.#accounts.devices(this.#seat.user).find(({ device }) => device === this.#seat.device);
    if (mine?.token) return;
    this.#client.signOut();
    this.#forget();
  }

  #forget() {
    this.#seat.erase();
    this.#away();
    location.hash = "";
    this.#signInView.show();
  }

  #leave() {
    this.#client.stop();
    this.#seat.leave();
    this.#away();
  }

  #away() {
    this.#client = this.#seat = null;
    this.#entered = false;
    this.#messenger.hide();
  }
}

function questionAfter(bye) {
  const title = bye.code === "replaced" ? "Open somewhere else" : "Disconnected";
  const yes = bye.code === "replaced" ? "Use it here" : "Connect again";
  return { title, text: whyEnded(bye), yes, no: "Sign in as somebody else", mustAnswer: true };
}

function questionAbout(unsent) {
  const text = `${unsent === 1 ? "One message has" : `${unsent} messages have`} not been sent yet and would be lost.`;
  return { title: "Sign out now?", text, yes: "Sign out", no: "Stay" };
}

function socketUrl() {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

new App().start();
