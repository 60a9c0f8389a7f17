/** The few things the views do with the page. Text enters it as text only: nothing here, or anywhere, parses HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {object} attributes `class`, `text` (its content), and any attribute; one that is false or null is left out
 * @param {...Node} children
 */
export function element(tag, { text, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

/** @param {string} name of a symbol in index.html */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function setAttribute(node, name, value) {
  if (value === false || value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Changes the text only where it is another one, so that nothing is announced or laid out again for nothing. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes the children of `parent` those of `rows`, in their order, keeping the elements of rows that were there before. The focus stays on
 * its element even where that one is moved.
 *
 * @param {Element} parent
 * @param {{key: string}[]} rows
 * @param {(row: object) => Element} create an element for a new row
 * @param {(node: Element, row: object) => void} update called for every row
 */
export function reconcile(parent, rows, create, update) {
  const focused = document.activeElement;
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const row of rows) {
    const node = old.get(row.key) ?? keyed(create(row), row.key);
    old.delete(row.key);
    update(node, row);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
  if (parent.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** True where there is no keyboard but the one on the screen, which covers half of the page when something gets the focus. */
export function isTouched() {
  return matchMedia("(pointer: coarse)").matches;
}

function keyed(node, key) {
  node.dataset.key = key;
  return node;
}
