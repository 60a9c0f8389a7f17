/** The one dialog of the page: something is said, and one of two buttons is the answer. */

import { setText } from "./dom.js";

export class QuestionView {
  #dialog;

  /** @param {HTMLDialogElement} dialog */
  constructor(dialog) {
    this.#dialog = dialog;
  }

  /**
   * @param {{title: string, text: string, yes: string, no: string, mustAnswer?: boolean}} question `mustAnswer`: Escape does not close it
   * @returns {Promise<boolean>} true for `yes`; false for `no`, Escape, or a later `close`
   */
  ask({ title, text, yes, no, mustAnswer = false }) {
    const dialog = this.#dialog;
    setText(dialog.querySelector("h2"), title);
    setText(dialog.querySelector("p"), text);
    setText(dialog.querySelector("[value=yes]"), yes);
    setText(dialog.querySelector("[value=no]"), no);
    dialog.returnValue = "";
    dialog.oncancel = (event) => mustAnswer && event.preventDefault();
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("[value=yes]").focus();
    return new Promise((resolve) => {
      dialog.onclose = () => resolve(dialog.returnValue === "yes");
    });
  }

  close() {
    this.#dialog.close();
  }
}
