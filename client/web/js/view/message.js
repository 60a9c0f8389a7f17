/** One line of a conversation as an element. */

import { timeOf } from "../protocol.js";
import { element, icon, setAttribute, setText } from "./dom.js";
import { clockLabel, exactLabel } from "./format.js";

const STATES = {
  sending: { symbol: "sending", word: "Sending" },
  sent: { symbol: "sent", word: "Sent" },
  delivered: { symbol: "delivered", word: "Delivered" },
  seen: { symbol: "delivered", word: "Read" },
  failed: { symbol: "failed", word: "Not sent" },
};

/** @param {import("./rows.js").Row} row @returns {HTMLLIElement} */
export function createLine(row, actions) {
  return row.kind === "day" ? element("li", { class: "day" }, element("span")) : createMessage(row, actions);
}

/** @param {HTMLLIElement} line made for a row with the same key */
export function updateLine(line, row) {
  if (row.kind === "day") setText(line.firstElementChild, row.text);
  else updateMessage(line, row);
}

function createMessage(row, { onRetry, onDiscard }) {
  const meta = element("span", { class: "meta" }, element("span", { class: "edited" }), element("time"));
  if (row.own) meta.append(element("span", { class: "state" }, icon("sending"), element("span", { class: "visually-hidden" })));
  const line = element("li", { class: `message ${row.own ? "own" : "other"}` });
  if (row.author) line.append(element("span", { class: "author", text: row.author }));
  const quote = element("span", { class: "quote", dir: "auto" });
  line.append(element("div", { class: "bubble" }, quote, element("span", { class: "text", dir: "auto" }), meta));
  line.append(element("span", { class: "reactions" }));
  if (row.own) line.append(createWhy(row.id, onRetry, onDiscard));
  return line;
}

function createWhy(id, onRetry, onDiscard) {
  const retry = element("button", { type: "button", class: "link", text: "Try again" });
  const discard = element("button", { type: "button", class: "link", text: "Discard" });
  retry.addEventListener("click", () => onRetry(id));
  discard.addEventListener("click", () => onDiscard(id));
  return element("p", { class: "why", role: "alert", hidden: "" }, element("span"), retry, discard);
}

function updateMessage(line, row) {
  line.classList.toggle("opens", row.opens);
  setPart(line.querySelector(".quote"), row.quote);
  setText(line.querySelector(".text"), row.text);
  setPart(line.querySelector(".edited"), [row.edited && "edited", row.vanishes && "vanishes"].filter(Boolean).join(", "));
  setPart(line.querySelector(".reactions"), row.reactions);
  const time = line.querySelector("time");
  setText(time, clockLabel(row.time));
  setAttribute(time, "datetime", new Date(row.time).toISOString());
  setAttribute(time, "title", exactLabel(row.time));
  if (row.own) updateState(line, row);
}

/** What most messages have not. */
function setPart(node, text) {
  setText(node, text);
  node.hidden = text === "";
}

function updateState(line, row) {
  const { symbol, word } = STATES[row.state];
  setAttribute(line, "data-state", row.state);
  setAttribute(line.querySelector("use"), "href", `#icon-${symbol}`);
  setText(line.querySelector(".state .visually-hidden"), word);
  const why = line.querySelector(".why");
  setText(why.firstElementChild, row.why);
  why.hidden = row.why === "";
}

/** The text a screen reader is given for a message that has just come in. */
export function announcementOf(message, text) {
  return `${message.from}, ${clockLabel(timeOf(message.at))}: ${text}`;
}
