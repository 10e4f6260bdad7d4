// A video by itself: how it looks, how it was made, and what can be made of it.

import { call, explain, media } from "./api.js";
import * as calls from "./calls.js";
import { aspect, standing } from "./card.js";
import { $, el, say } from "./dom.js";
import { active } from "./library.js";
import * as player from "./player.js";
import { date, duration, t } from "./text.js";

const RIVALS = 100;
let now = null;
let other = null;
let rivals = [];
let jump = () => {};
let language = "curl";

/** Open a video, or how its job stands. */
export function open(video) {
  now = video;
  other = null;
  rivals = [];
  draw();
  if (!$("view").open) $("view").showModal();
  lineage(video);
  offer(video);
}

/** Have the open job be drawn anew if `video` is it. */
export function note(video) {
  if (!$("view").open || now?.id !== video.id) return;
  const finished = active(now) && !active(video);
  now = video;
  if (finished) draw();
  else if (active(video)) progress();
}

export function preview(data) {
  if ($("view").open && now?.id === data.id && active(now)) $("so-far").src = data.image;
}

function draw() {
  const done = now.status === "completed";
  $("view-prompt").textContent = now.prompt;
  $("stage").hidden = !done;
  $("unfinished").hidden = done;
  for (const name of ["download", "remix", "compare-row", "provenance"]) $(name).hidden = !done;
  if (done) player.show(other ? [now, other] : [now]);
  else progress();
  $("verdict").textContent = "";
  facts();
  example();
  choices();
}

/** What there is to compare with: whatever the wall is filtered by, and however it changes. */
async function offer(video) {
  const list = call("GET", `/v1/videos?status=completed&limit=${RIVALS}`);
  const found = await list.then(
    (page) => page.data,
    () => [],
  );
  if (now?.id !== video.id) return;
  rivals = found.filter((each) => each.id !== video.id);
  choices();
}

function choices() {
  const options = rivals.map((video) => el("option", { value: video.id }, named(video)));
  $("compare").replaceChildren(el("option", { value: "" }, t("view.compare.none")), ...options);
  $("compare").value = other?.id ?? "";
}

function progress() {
  player.stop();
  const picture = jump.preview(now.id);
  if (picture) $("so-far").src = picture.image;
  else $("so-far").removeAttribute("src");
  $("so-far").alt = t("view.preview");
  $("so-far").style.setProperty("--aspect", aspect(now));
  $("so-far").hidden = !active(now);
  $("standing").textContent =
    now.status === "failed" && now.error ? explain(now.error) : standing(now);
  $("standing-bar").value = now.progress;
  $("standing-bar").hidden = !active(now);
}

function facts() {
  const rows = [
    [t("model"), now.model],
    [
      t("size"),
      now.size === now.rendered_size ? now.size : t("size.enlarged", now.size, now.rendered_size),
    ],
    [t("view.length"), t("seconds.frames", now.seconds, now.num_frames)],
    [t("seed"), now.seed],
    [t("steps"), now.num_inference_steps],
    [t("guidance"), now.guidance_scale ?? jump.model(now.model)?.guidance_scale],
    [t("negative"), now.negative_prompt || null],
    [t("strength"), now.strength],
    [t("view.made"), date(now.created_at)],
    [t("view.took"), now.timings ? duration(took(now.timings)) : null],
  ];
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  $("facts").replaceChildren(
    ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, `${value}`)]),
  );
  $("warnings").hidden = !now.warnings.length;
  $("warnings-list").replaceChildren(...now.warnings.map((warning) => el("li", {}, warning)));
}

const named = (video) => `${video.prompt} · ${t("seed")} ${video.seed}`;

const took = ({ queue: _, ...stages }) => Object.values(stages).reduce((sum, s) => sum + s, 0);

function example() {
  $("call").textContent = calls[language](now);
  for (const name of ["curl", "python"]) $(name).setAttribute("aria-pressed", name === language);
}

async function lineage(video) {
  const box = $("lineage");
  box.hidden = true;
  const source = video.remixed_from_video_id;
  const list = call("GET", `/v1/videos?remixed_from_video_id=${video.id}&limit=12`);
  const [parent, children] = await Promise.all([
    source ? call("GET", `/v1/videos/${source}`).catch(() => null) : null,
    list.then(
      (page) => page.data,
      () => [],
    ),
  ]);
  if (now?.id !== video.id || (!parent && !children.length)) return;
  const groups = [
    [t("view.parent"), parent ? [parent] : []],
    [t("view.children"), children],
  ];
  const drawn = groups
    .filter(([, videos]) => videos.length)
    .map(([name, videos]) =>
      el("div", {}, el("h4", {}, name), el("div", { class: "kin" }, ...videos.map(relative))),
    );
  $("lineage-list").replaceChildren(...drawn);
  box.hidden = false;
}

function relative(video) {
  const still = el("img", { alt: "" });
  if (video.status === "completed")
    media(video, "thumbnail").then(
      (url) => (still.src = url),
      () => {},
    );
  const name = t("card.open", video.prompt);
  return el(
    "button",
    { type: "button", "aria-label": name, title: video.prompt, onclick: () => open(video) },
    still,
  );
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("call").textContent);
    $("copied").textContent = t("view.copied");
  } catch {
    $("copied").textContent = t("view.uncopied");
  }
  setTimeout(() => ($("copied").textContent = ""), 3000);
}

async function download() {
  const url = await media(now, "video");
  el("a", { href: url, download: `${now.id}.mp4` }).click();
}

/** Ask who made the file, by the manifest that it carries. */
async function verify() {
  const output = $("verdict");
  output.textContent = "…";
  try {
    const told = await call("POST", "/v1/videos/verify", { video: { id: now.id } });
    const by = [told.signer, told.generator, told.made_at].filter(Boolean).join(" · ");
    output.textContent = `${t(`verdict.${told.verdict}`)} ${by}`;
  } catch (error) {
    output.textContent = error.message;
  }
}

/**
 * acts: remix, use and remove (each of a video), preview(id), and model(name), what the service
 * says of it.
 */
export function begin(acts) {
  jump = acts;
  player.begin();
  const close = () => $("view").close();
  const then = (act) => () => {
    close();
    act(now);
  };
  $("close").addEventListener("click", close);
  $("view").addEventListener("close", player.stop);
  $("view").addEventListener("click", (event) => event.target === $("view") && close());
  $("download").addEventListener("click", download);
  $("remix").addEventListener("click", then(acts.remix));
  $("use").addEventListener("click", then(acts.use));
  $("delete").addEventListener("click", then(acts.remove));
  $("copy").addEventListener("click", copy);
  $("provenance").addEventListener("click", verify);
  for (const name of ["curl", "python"]) {
    $(name).addEventListener("click", () => {
      language = name;
      example();
    });
  }
  $("compare").addEventListener("change", () => {
    other = rivals.find((video) => video.id === $("compare").value) ?? null;
    player.show(other ? [now, other] : [now]);
    if (other) say(`${t("view.compare.with")}: ${other.prompt}`);
  });
}
