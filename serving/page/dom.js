// Elements without markup: whatever a prompt or a file name holds, it is only ever text.

export const $ = (id) => document.getElementById(id);

/** An element. `props`: `on...` are listeners, `class` and `aria-...` attributes, else as named. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class" || name === "for" || name.includes("-"))
      node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An `<option>` for each of `[value, text]`, in place of those that were there. */
export function fill(select, options) {
  const kept = select.value;
  select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
  if (options.some(([value]) => value === kept)) select.value = kept;
}

const SVG = "http://www.w3.org/2000/svg";

/** A line drawing of the set in index.html, hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

let timer = 0;

/** Say something to a screen reader without moving its focus. */
export function say(text) {
  $("said").textContent = "";
  clearTimeout(timer);
  timer = setTimeout(() => ($("said").textContent = text), 100);
}
