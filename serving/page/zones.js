// Where a picture or a clip is dropped for the model to start from, as far as it can.

import { media } from "./api.js";
import { $, el, icon } from "./dom.js";
import * as draft from "./draft.js";
import { t } from "./text.js";

const KINDS = { image: "image/png,image/jpeg,image/webp", video: "video/mp4,video/webm" };

/** Name of a zone: the capability that it needs, what is dropped, what it cannot go with. */
const ZONES = {
  first_frame: { kind: "image", not: ["extend", "remix"] },
  last_frame: { kind: "image", not: ["join", "remix"] },
  extend: { kind: "video", not: ["first_frame", "remix"] },
  join: { kind: "video", not: ["last_frame", "remix"] },
  remix: { kind: "video", not: ["first_frame", "last_frame", "extend", "join"] },
};

// Name of the zone to `{ file }`, or `{ video }` for a remix of one made here. What the chosen model
// cannot use stays, for the one that is chosen next.
let held = new Map();
let loop = false;
let model = null;
let changed = () => {};

/** What is dropped that the chosen model can start from. */
export const dropped = () => new Map([...held].filter(([name]) => usable(name)));

export async function begin(onChange) {
  changed = onChange;
  $("loop").addEventListener("change", () => {
    loop = $("loop").checked;
    keep();
  });
  const before = await draft.readDropped();
  if (!before) return;
  held = new Map([...before.held, ...held]);
  loop ||= before.loop;
  $("sources").open ||= held.size > 0;
  draw();
}

/** Offer what `next`, an entry of GET /v1/models, can start from. */
export function offer(next) {
  model = next;
  draw();
}

/** Have the next video be a remix of one made here. */
export function remixOf(video) {
  put("remix", { video });
  $("sources").open = true;
}

export function clear() {
  held.clear();
  loop = false;
  keep();
}

const usable = (name) => model?.capabilities.includes(name);

function put(name, what) {
  for (const other of ZONES[name].not) held.delete(other);
  held.set(name, what);
  keep();
}

function keep() {
  draft.writeDropped({ held, loop });
  draw();
  changed();
}

function take(name, file) {
  const { kind } = ZONES[name];
  $("zone-wrong").textContent = "";
  if (!file) return;
  if (KINDS[kind].split(",").includes(file.type)) put(name, { file });
  else $("zone-wrong").textContent = t("zone.wrong", file.name, t(`zone.kind.${kind}`));
}

function draw() {
  if (!model) return;
  const names = Object.keys(ZONES).filter(usable);
  for (const url of drawn.splice(0)) URL.revokeObjectURL(url);
  $("zones").replaceChildren(...names.map(zone));
  const loops = usable("loop");
  $("loop-row").hidden = !loops;
  $("loop").disabled = !held.has("first_frame"); // there must be a picture to lead back to
  $("loop").checked = loop && !$("loop").disabled;
  $("zone-none").hidden = names.length > 0 || loops;
  $("zone-none").textContent = t("start.nothing", model.id);
  $("strength-row").hidden = !dropped().has("remix");
}

const drawn = [];

function zone(name) {
  const { kind } = ZONES[name];
  const given = held.get(name);
  const pick = el("input", {
    type: "file",
    accept: KINDS[kind],
    "aria-label": t(`zone.${name}`),
    onchange: () => take(name, pick.files[0]),
  });
  const hint = given
    ? (given.file?.name ?? given.video.prompt)
    : t(kind === "image" ? "zone.picture" : "zone.clip");
  const label = el(
    "label",
    { class: "drop" },
    given ? look(given, kind) : icon(kind),
    el("span", { class: "drop-name" }, t(`zone.${name}`)),
    el("span", { class: "drop-hint" }, hint),
    pick,
  );
  const box = el("div", { class: "zone", "data-zone": name }, label);
  if (given) {
    const what = `${t("zone.remove")}: ${t(`zone.${name}`)}`;
    const leave = () => {
      held.delete(name);
      keep();
    };
    box.append(
      el(
        "button",
        { type: "button", class: "act", "aria-label": what, onclick: leave },
        icon("close"),
      ),
    );
  }
  box.addEventListener("dragover", (event) => {
    event.preventDefault();
    box.classList.add("over");
  });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    take(name, event.dataTransfer.files[0]);
    box.classList.remove("over");
  });
  return box;
}

function look(given, kind) {
  if (given.video) {
    const still = el("img", { alt: "" });
    media(given.video, "thumbnail").then(
      (url) => (still.src = url),
      () => {},
    );
    return still;
  }
  const url = URL.createObjectURL(given.file);
  drawn.push(url);
  return kind === "image"
    ? el("img", { alt: "", src: url })
    : el("video", { src: url, muted: true });
}
