/** The page before there is a session: sign in, or create an account. */

import { NameError, parseUser } from "../protocol.js";
import { setText } from "./dom.js";

const MODES = {
  signIn: { submit: "Sign in", busy: "Signing in…", question: "New here?", other: "Create an account", password: "current-password" },
  register: { submit: "Create account", busy: "Creating…", question: "Have an account?", other: "Sign in", password: "new-password" },
};

export class SignInView {
  #root;
  #form;
  #mode = "signIn";
  #onSubmit;
  #elsewhere = "";

  /**
   * @param {HTMLElement} root
   * @param {(entered: {user: string, password: string, register: boolean}) => void} onSubmit
   * @param {(user: string) => void} onUseHere
   */
  constructor(root, onSubmit, onUseHere) {
    this.#root = root;
    this.#form = root.querySelector("form");
    this.#onSubmit = onSubmit;
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    root.querySelector(".switch button").addEventListener("click", () => this.#switch());
    root.querySelector(".elsewhere button").addEventListener("click", () => onUseHere(this.#elsewhere));
  }

  /**
   * @param {object} [state]
   * @param {string} [state.user] who most likely signs in
   * @param {boolean} [state.elsewhere] that user's session is held by another tab
   * @param {string} [state.error]
   */
  show({ user = "", elsewhere = false, error = "" } = {}) {
    this.#root.hidden = false;
    this.#elsewhere = user;
    this.#root.querySelector(".elsewhere").hidden = !elsewhere;
    setText(this.#root.querySelector(".elsewhere p"), `imserver is open as ${user} in another tab or window.`);
    if (user) this.#form.elements.user.value = user;
    this.#enter(this.#mode);
    this.fail(error);
    if (elsewhere) this.#root.querySelector(".elsewhere button").focus();
  }

  hide() {
    this.#root.hidden = true;
    this.#form.elements.password.value = "";
    this.#busy(false);
  }

  /** Shows why it did not work; what was typed stays. */
  fail(error, field = "password") {
    this.#busy(false);
    setText(this.#root.querySelector(".error"), error);
    const { elements } = this.#form;
    (elements.user.value === "" ? elements.user : elements[field]).focus();
  }

  #submit(event) {
    event.preventDefault();
    const { user, password } = this.#form.elements;
    try {
      const entered = { user: parseUser(user.value), password: password.value, register: this.#mode === "register" };
      if (entered.password === "") return this.fail("Please type the password.");
      this.#busy(true);
      return this.#onSubmit(entered);
    } catch (error) {
      if (!(error instanceof NameError)) throw error;
      return this.fail(error.message, "user");
    }
  }

  #switch() {
    this.#enter(this.#mode === "register" ? "signIn" : "register");
    this.fail("", "user");
  }

  #enter(mode) {
    this.#mode = mode;
    const words = MODES[mode];
    setText(this.#root.querySelector("[type=submit]"), words.submit);
    setText(this.#root.querySelector(".switch span"), words.question);
    setText(this.#root.querySelector(".switch button"), words.other);
    this.#form.elements.password.autocomplete = words.password;
  }

  #busy(busy) {
    const button = this.#root.querySelector("[type=submit]");
    button.disabled = busy;
    setText(button, busy ? MODES[this.#mode].busy : MODES[this.#mode].submit);
    if (busy) setText(this.#root.querySelector(".error"), "");
  }
}
