// One video, or two in step: play, loop, and every frame within reach.

import { media } from "./api.js";
import { aspect } from "./card.js";
import { $, el, icon } from "./dom.js";
import { t } from "./text.js";

let shown = []; // { video, screen }: the longest leads
let ticking = 0;
let touched = false; // by somebody who did not wait for the video: then it does not play by itself

const lead = () => shown[0];
const frameOf = ({ video, screen }) =>
  Math.min(video.num_frames - 1, Math.floor(screen.currentTime * video.fps + 0.01));

/** Show these videos, one or two, from their beginning. */
export async function show(videos) {
  stop();
  touched = false;
  const order = [...videos].sort((a, b) => Number(b.seconds) - Number(a.seconds));
  const made = new Map();
  const loaded = [];
  const screens = videos.map((video) => {
    const screen = el("video", {
      muted: true,
      playsInline: true,
      preload: "auto",
      "aria-label": video.prompt,
    });
    screen.style.setProperty("--aspect", aspect(video));
    made.set(video, screen);
    const ready = new Promise((done) =>
      screen.addEventListener("loadeddata", done, { once: true }),
    );
    loaded.push(ready);
    media(video, "video").then(
      (url) => (screen.src = url),
      () => {},
    );
    const name = `${video.prompt} · ${t("seed")} ${video.seed}`;
    const caption = el("figcaption", { hidden: videos.length === 1 }, name);
    return el("figure", {}, screen, caption);
  });
  $("screens").replaceChildren(...screens);
  $("screens").dataset.count = videos.length;
  shown = order.map((video) => ({ video, screen: made.get(video) }));
  $("scrub").max = order[0].num_frames - 1;
  lead().screen.addEventListener("ended", () => {
    if (!looping()) return told();
    shown.forEach(({ screen }) => (screen.currentTime = 0));
    play();
  });
  for (const name of ["play", "pause", "seeked", "loadeddata"]) {
    lead().screen.addEventListener(name, told);
  }
  told();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const mine = shown;
  await Promise.all(loaded);
  if (!still && !touched && mine === shown) play();
}

/** Let go of what is shown. */
export function stop() {
  cancelAnimationFrame(ticking);
  for (const { screen } of shown) {
    screen.pause();
    screen.removeAttribute("src");
    screen.load();
  }
  shown = [];
  $("screens").replaceChildren();
}

const looping = () => $("loops").getAttribute("aria-pressed") === "true";

function play() {
  for (const { screen } of shown) {
    if (screen.ended) screen.currentTime = 0;
    screen.play().catch(() => {}); // it was closed meanwhile
  }
  cancelAnimationFrame(ticking);
  ticking = requestAnimationFrame(tick);
}

function pause() {
  shown.forEach(({ screen }) => screen.pause());
  if (shown.length) seek(frameOf(lead()));
}

/** Go to a frame of the leading video; the other goes to the same moment. */
function seek(frame) {
  touched = true;
  const { video } = lead();
  const moment = (Math.max(0, Math.min(video.num_frames - 1, frame)) + 0.5) / video.fps;
  for (const each of shown) {
    const last = (each.video.num_frames - 0.5) / each.video.fps;
    const own = (Math.floor(moment * each.video.fps + 0.01) + 0.5) / each.video.fps;
    each.screen.currentTime = Math.min(own, last);
  }
}

function tick() {
  if (!shown.length) return;
  const { screen } = lead();
  const now = screen.currentTime;
  for (const other of shown.slice(1)) {
    const apart = Math.abs(other.screen.currentTime - Math.min(now, Number(other.video.seconds)));
    if (!screen.seeking && !other.screen.seeking && apart > 0.5 / other.video.fps)
      other.screen.currentTime = now;
  }
  told();
  if (!screen.paused) ticking = requestAnimationFrame(tick);
}

/** Have the controls say what the screen shows. */
function told() {
  if (!shown.length) return;
  const frame = frameOf(lead());
  const paused = lead().screen.paused;
  $("scrub").value = frame;
  $("scrub").setAttribute("aria-valuetext", t("view.frame.of", frame + 1, lead().video.num_frames));
  $("frame").textContent = `${frame + 1} / ${lead().video.num_frames}`;
  const name = paused ? "play" : "pause";
  if ($("play").dataset.shows === name) return;
  $("play").dataset.shows = name;
  $("play").setAttribute("aria-label", t(`view.${name}`));
  $("play").replaceChildren(icon(name));
}

function step(by) {
  const frame = frameOf(lead()) + by;
  pause();
  seek(frame);
}

const KEYS = {
  " ": () => (lead().screen.paused ? play() : pause()),
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  Home: () => step(-Infinity),
  End: () => step(Infinity),
  l: () => $("loops").click(),
};

export function begin() {
  $("play").addEventListener("click", KEYS[" "]);
  $("back").addEventListener("click", () => step(-1));
  $("forward").addEventListener("click", () => step(1));
  $("loops").addEventListener("click", () => $("loops").setAttribute("aria-pressed", !looping()));
  $("scrub").addEventListener("input", () => {
    const frame = Number($("scrub").value);
    shown.forEach(({ screen }) => screen.pause());
    seek(frame);
  });
  $("view").addEventListener("keydown", (event) => {
    const busy = event.target.closest("button, a, select, textarea, summary");
    const scrubbing = event.target === $("scrub") && event.key !== " ";
    if (!shown.length || scrubbing || (event.key === " " && busy) || !(event.key in KEYS)) return;
    if (event.target.closest("select, textarea") || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}
