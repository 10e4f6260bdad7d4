// The storyboard: shots in their order, by drag or by keyboard, that become one video.

import { $, el, icon, say } from "./dom.js";
import { mark } from "./prompt.js";
import { t } from "./text.js";

let list = [{ prompt: "", seconds: "", join: "cut" }];
let model = null;
let changed = () => {};
let dragged = -1;

/** The shots, as the API has them. */
export const shots = () =>
  list.map(({ prompt, seconds, join }, i) => ({
    prompt: prompt.trim(),
    seconds: seconds || lengths()[0],
    join: i && continues() ? join : "cut",
  }));

/** All their prompts in a line, for whoever lists the video. */
export const title = () =>
  list
    .map((shot) => shot.prompt.trim())
    .filter(Boolean)
    .join(" / ");

/** Replace the shots. */
export function write(next) {
  list = next.length
    ? next.map((shot) => ({ ...shot }))
    : [{ prompt: "", seconds: "", join: "cut" }];
  draw();
}

/** Fit what is offered to a model. */
export function offer(next) {
  model = next;
  draw();
}

export function begin(onChange) {
  changed = onChange;
  $("add-shot").addEventListener("click", () => {
    list.push({ prompt: "", seconds: list.at(-1).seconds, join: "cut" });
    draw();
    changed();
    $("shots").lastElementChild.querySelector("textarea").focus();
  });
}

const frames = () => [...(model?.num_frames ?? [])].sort((a, b) => a - b);
const lengths = () => frames().map((n) => `${n / model.fps}`);
// Going on from the last picture takes a model that can start from one.
const continues = () => model?.capabilities.includes("first_frame");

function draw() {
  $("shots").replaceChildren(...list.map(row));
  total();
}

function total() {
  if (!model) return;
  const of = Object.fromEntries(frames().map((n) => [`${n / model.fps}`, n]));
  const sum = shots().reduce((all, shot) => all + (of[shot.seconds] ?? 0), 0);
  $("total").textContent = t("shot.total", list.length, sum / model.fps, sum);
}

function row(shot, index) {
  const number = index + 1;
  const field = el("textarea", {
    rows: 2,
    value: shot.prompt,
    maxLength: 32_000,
    spellcheck: false,
    "aria-label": t("shot.prompt", number),
  });
  const echo = el("div", { class: "echo", "aria-hidden": "true" });
  field.addEventListener("input", () => {
    shot.prompt = field.value;
    mark(field, echo, model);
    total();
  });
  mark(field, echo, model);
  const seconds = choice(
    shot,
    "seconds",
    lengths().map((n) => [n, t("time.seconds", n)]),
  );
  seconds.setAttribute("aria-label", `${t("shot", number)}: ${t("seconds")}`);
  const item = el(
    "li",
    { class: "shot" },
    el(
      "div",
      { class: "shot-head" },
      handle(index),
      el("b", {}, t("shot", number)),
      seconds,
      join(shot, number),
      tools(index),
    ),
    el("div", { class: "writing" }, echo, field),
  );
  item.addEventListener("dragover", (event) => {
    event.preventDefault();
    item.classList.add("over");
  });
  item.addEventListener("dragleave", () => item.classList.remove("over"));
  item.addEventListener("drop", (event) => {
    event.preventDefault();
    if (dragged >= 0) move(dragged, index);
  });
  return item;
}

function choice(shot, name, options) {
  const select = el("select", {}, ...options.map(([value, text]) => el("option", { value }, text)));
  if (options.some(([value]) => value === shot[name])) select.value = shot[name];
  select.addEventListener("change", () => {
    shot[name] = select.value;
    total();
  });
  return select;
}

function join(shot, number) {
  if (number === 1 || !continues()) return null;
  const select = choice(shot, "join", [
    ["cut", t("shot.cut")],
    ["continue", t("shot.continue")],
  ]);
  select.setAttribute("aria-label", t("shot.join", number));
  return select;
}

function handle(index) {
  const grip = el(
    "span",
    { class: "grip", draggable: true, title: t("shot.drag", index + 1) },
    icon("grip"),
  );
  grip.addEventListener("dragstart", (event) => {
    dragged = index;
    event.dataTransfer.setData("text/plain", `${index}`);
    event.dataTransfer.effectAllowed = "move";
  });
  grip.addEventListener("dragend", () => (dragged = -1));
  return grip;
}

function tools(index) {
  const button = (name, off, onclick) =>
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        disabled: off,
        "aria-label": t(`shot.${name}`, index + 1),
        "data-does": name,
        onclick,
      },
      icon(name),
    );
  return el(
    "span",
    { class: "tools" },
    button("up", index === 0, () => move(index, index - 1, "up")),
    button("down", index === list.length - 1, () => move(index, index + 1, "down")),
    button("remove", list.length === 1, () => {
      list.splice(index, 1);
      draw();
      changed();
      $("shots").children[Math.min(index, list.length - 1)].querySelector("textarea").focus();
    }),
  );
}

/** Put a shot elsewhere; `by` names the button that did it, which keeps the focus. */
function move(from, to, by) {
  dragged = -1;
  list.splice(to, 0, ...list.splice(from, 1));
  draw();
  changed();
  say(t("shot.moved", from + 1, to + 1));
  const button = by && $("shots").children[to].querySelector(`[data-does=${by}]`);
  if (button)
    (button.disabled ? $("shots").children[to].querySelector("textarea") : button).focus();
}
