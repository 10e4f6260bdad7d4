// A line at the foot of the page that says what happened, with a way back for a while.

import { $, el } from "./dom.js";

const MOST = 3;
const shown = [];

/**
 * Show a text for some seconds, and for as long as it is pointed at or has the focus. With
 * `[name, act]` there is a button beside it; `over` is called if it goes without having been used.
 */
export function toast(text, [name, act] = [], seconds = 6, over = () => {}) {
  const node = el("div", { class: "toast" }, el("span", {}, text));
  const end = () => {
    clearTimeout(timer);
    node.remove();
    shown.splice(shown.indexOf(own), 1);
  };
  const own = {
    node,
    expire() {
      end();
      over();
    },
  };
  const onclick = () => {
    end();
    act();
  };
  if (name) node.append(el("button", { type: "button", onclick }, name));
  const wait = () => (node.matches(":hover, :focus-within") ? later(1) : own.expire());
  const later = (seconds) => (timer = setTimeout(wait, seconds * 1000));
  let timer = 0;
  later(seconds);
  $("toasts").append(node);
  if (shown.push(own) > MOST) shown[0].expire();
  return node;
}
