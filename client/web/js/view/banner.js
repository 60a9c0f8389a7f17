/** One line above everything that says how the page stands with the server, if there is anything to say. */

import { setAttribute, setText } from "./dom.js";
import { waitLabel } from "./format.js";

const NO_ROOM = "This browser has no room to keep messages. After a reload they come from the server again.";

/**
 * @param {import("../client.js").Link} link
 * @param {{online: boolean, broken: boolean, now: number}} around `online`: the browser sees a network; `broken`: nothing can be kept here
 * @returns {{text: string, detail: string, mood: "" | "wait" | "trouble", canHurry: boolean}} an empty text: nothing to say; `detail` changes
 *   all the time and is not read out
 */
export function bannerOf(link, { online, broken, now }) {
  if (link.stage === "live" && broken) return say(NO_ROOM, "trouble");
  if (link.stage === "live" || link.stage === "over") return say("", "");
  if (!online) return say("You are offline. What you write is kept and sent when you are back.", "trouble");
  if (link.stage === "catching-up") return say("Catching up…", "wait");
  if (link.retryAt === 0) return say("Connecting…", "wait");
  const waits = link.retryAt > now;
  const detail = waits ? `Trying again in ${waitLabel(link.retryAt, now)}.` : "Trying again…";
  return { ...say("No connection to the server.", "trouble"), detail, canHurry: waits };
}

function say(text, mood) {
  return { text, mood, detail: "", canHurry: false };
}

export class BannerView {
  #root;

  /** @param {HTMLElement} root @param {() => void} onHurry */
  constructor(root, onHurry) {
    this.#root = root;
    root.querySelector("button").addEventListener("click", onHurry);
  }

  /** @param {ReturnType<typeof bannerOf>} banner */
  render({ text, detail, mood, canHurry }) {
    this.#root.hidden = text === "";
    setAttribute(this.#root, "data-mood", mood);
    setText(this.#root.querySelector(".text"), text);
    setText(this.#root.querySelector(".detail"), detail);
    this.#root.querySelector("button").hidden = !canHurry;
  }
}
