import { setAttribute, setText } from "./dom.js";
import { hueOf, initialOf } from "./format.js";

/** A round letter in the name's colour. */
export function paintAvatar(node, name) {
  setText(node, name ? initialOf(name) : "");
  setAttribute(node, "data-hue", name ? hueOf(name) : null);
}
