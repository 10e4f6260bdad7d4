// The field for the prompt: words that were never learned are marked, chips go on from what is there.

import { $, el } from "./dom.js";
import { t } from "./text.js";
import { goOn, nearest, unknown } from "./words.js";

const MOST_CHIPS = 10;

/** Mark in `echo`, which lies behind a text field, the words that `model` never learned. */
export function mark(field, echo, model) {
  const text = field.value;
  const strange = unknown(text, model?.words);
  const parts = [];
  let done = 0;
  for (const word of strange) {
    parts.push(text.slice(done, word.at), el("mark", {}, word.text));
    done = word.at + word.text.length;
  }
  echo.replaceChildren(...parts, `${text.slice(done)}\n`);
  echo.scrollTop = field.scrollTop;
  return [...new Set(strange.map((word) => word.text))];
}

/** What to say of a text, in a line. */
function note(text, strange, model) {
  if (!text.trim()) return t("prompt.hint");
  if (strange.length) {
    const names = strange.slice(0, 4).map((word) => `“${word}”`);
    return t("prompt.unknown", model.id, names.join(", ") + (strange.length > 4 ? "…" : ""));
  }
  if (model?.grammar && goOn(text, model.grammar).whole) return t("prompt.whole", model.id);
  return "";
}

/** What to offer: `[text of the chip, the prompt that it makes]` each. */
function offers(text, model) {
  const examples = model.examples ?? [];
  if (!text.trim()) return spread(examples, 6).map((example) => [example, example]);
  if (model.grammar) {
    const { next, part, follows } = goOn(text, model.grammar);
    const stem = part ? text.slice(0, text.length - part.length) : text.replace(/\s*$/, " ");
    if (follows) return next.slice(0, MOST_CHIPS).map((word) => [word, `${stem}${word} `]);
  }
  return nearest(text, examples).map((example) => [example, example]);
}

/** A few of a list, from all over it; serving/routes_page.py picks the same. */
function spread(list, count) {
  const places = Array.from({ length: count }, (_, i) => Math.floor((i * list.length) / count));
  return [...new Set(places.map((place) => list[place]))].filter(Boolean);
}

let model = null;

/** Draw everything that depends on what is typed. */
export function refresh(next = model) {
  model = next;
  const field = $("prompt");
  const strange = mark(field, $("echo"), model);
  const said = note(field.value, strange, model);
  if ($("known").textContent !== said) $("known").textContent = said;
  $("known").classList.toggle("warn", strange.length > 0);
  if (!model) return;
  const chips = offers(field.value, model);
  const old = [...$("chips").children];
  if (old.length === chips.length && old.every((chip, i) => chip.textContent === chips[i][0])) {
    old.forEach((chip, i) => (chip.dataset.makes = chips[i][1]));
    return;
  }
  const focused = old.indexOf(document.activeElement);
  $("chips").replaceChildren(
    ...chips.map(([name, makes]) =>
      el("button", { type: "button", class: "chip", "data-makes": makes }, name),
    ),
  );
  if (focused >= 0) ($("chips").children[0] ?? field).focus();
}

/** Listen; `changed` is called when the prompt is another. */
export function begin(changed) {
  const field = $("prompt");
  field.addEventListener("input", () => {
    refresh();
    changed();
  });
  field.addEventListener("scroll", () => ($("echo").scrollTop = field.scrollTop));
  $("chips").addEventListener("click", (event) => {
    const chip = event.target.closest(".chip");
    if (!chip) return;
    write(chip.dataset.makes ?? chip.textContent);
    changed();
    if (event.detail) field.focus(); // clicked; by keyboard one stays among the chips
  });
}

export function write(text) {
  $("prompt").value = text;
  refresh();
}
