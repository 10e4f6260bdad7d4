// One card of the wall: a job that waits or runs, or the video that it became.

import { explain, media } from "./api.js";
import { el, icon } from "./dom.js";
import { active } from "./library.js";
import { duration, t } from "./text.js";

const COLUMNS = 5;
const CELLS = 25;

/** Where a job stands, in a few words. */
export function standing(video) {
  if (video.status === "failed") {
    return video.error?.code === "cancelled" ? t("status.cancelled") : t("status.failed");
  }
  if (!active(video)) return t("status.completed");
  const left = video.eta_seconds === null ? [] : [t("job.left", duration(video.eta_seconds))];
  if (video.status === "in_progress")
    return [t("job.percent", video.progress), ...left].join(" · ");
  const place = video.queue_position;
  const line = place === null ? t("status.queued") : place ? t("job.behind", place) : t("job.next");
  return [line, ...left].join(" · ");
}

/** Width over height of a video. */
export function aspect(video) {
  const [width, height] = video.size.split("x").map(Number);
  return width / height;
}

export function makeCard(video, { open, cancel, remove, again, preview }) {
  const still = el("img", { alt: "", draggable: false, decoding: "async" });
  const sheet = el("div", { class: "sheet", hidden: true });
  const waiting = icon("mark");
  const wrong = el("span", { class: "wrong" });
  const bar = el("div", { class: "bar" });
  const state = el("span", { class: "state" });
  const opener = el(
    "button",
    { type: "button", class: "open", onclick: () => open(now) },
    waiting,
    wrong,
    still,
    sheet,
  );
  const act = el("button", { type: "button", class: "act" });
  const prompt = el("p", { class: "prompt" });
  const foot = el("div", { class: "foot" }, state);
  const frame = el("div", { class: "frame" }, opener, el("div", { class: "progress" }, bar), act);
  const node = el("article", { class: "card", role: "listitem" }, frame, prompt, foot);
  const flip = flipbook(sheet, () => now);
  opener.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && flip.start());
  opener.addEventListener("focus", () => flip.start());
  for (const end of ["pointerleave", "blur"]) opener.addEventListener(end, () => flip.stop());
  let now = video;
  let shown = "";

  function update(next, index, count) {
    now = next;
    node.dataset.status = next.status;
    node.dataset.id = next.id;
    node.setAttribute("aria-posinset", index + 1);
    node.setAttribute("aria-setsize", count);
    const failed = next.error && next.error.code !== "cancelled";
    wrong.textContent = failed ? explain(next.error) : "";
    const text = next.status === "completed" ? `${next.size} · ${next.seconds} s` : standing(next);
    if (state.textContent !== text) state.textContent = text;
    if (prompt.textContent !== next.prompt) prompt.textContent = next.prompt;
    const name = [t("card.open", next.prompt), standing(next), wrong.textContent];
    opener.setAttribute("aria-label", name.filter(Boolean).join(". "));
    bar.style.width = `${next.progress}%`;
    const does = active(next) ? "cancel" : failed ? "again" : "delete";
    if (act.dataset.does !== does) {
      act.dataset.does = does;
      act.setAttribute("aria-label", t(`card.${does}`));
      act.title = t(`card.${does}`);
      act.replaceChildren(icon(does));
    }
    show();
  }

  function show() {
    const wanted = now.status === "completed" ? "thumbnail" : (preview(now.id)?.image ?? "");
    if (wanted === shown) return;
    shown = wanted;
    if (wanted !== "thumbnail")
      return void (wanted ? (still.src = wanted) : still.removeAttribute("src"));
    media(now, "thumbnail").then(
      (url) => (still.src = url),
      () => {},
    );
  }

  act.addEventListener("click", () => ({ cancel, again, delete: remove })[act.dataset.does](now));
  return { node, update, show, gone: () => flip.stop() };
}

/** Play a sprite sheet: up to 25 frames in rows of five. */
function flipbook(sheet, current) {
  let timer = 0;
  let over = true;

  function stop() {
    over = true;
    clearInterval(timer);
    sheet.hidden = true;
  }

  async function start() {
    const video = current();
    if (video.status !== "completed" || !over) return;
    over = false;
    const url = await media(video, "spritesheet").catch(() => null);
    if (!url || over) return;
    const cells = Math.min(video.num_frames, CELLS);
    const rows = Math.ceil(cells / COLUMNS);
    const wide =
      aspect(video) >= sheet.parentElement.clientWidth / sheet.parentElement.clientHeight;
    Object.assign(sheet.style, {
      aspectRatio: aspect(video),
      width: wide ? "100%" : "auto",
      height: wide ? "auto" : "100%",
      backgroundImage: `url("${url}")`,
      backgroundSize: `${COLUMNS * 100}% ${rows * 100}%`,
    });
    const begun = performance.now();
    const draw = () => {
      const elapsed = (performance.now() - begun) / 1000;
      const cell = Math.floor((elapsed / Number(video.seconds)) * cells) % cells;
      const [row, column] = [Math.floor(cell / COLUMNS), cell % COLUMNS];
      const down = rows > 1 ? (row / (rows - 1)) * 100 : 0;
      sheet.style.backgroundPosition = `${(column / (COLUMNS - 1)) * 100}% ${down}%`;
      sheet.dataset.cell = cell;
    };
    draw();
    sheet.hidden = false;
    timer = setInterval(draw, (Number(video.seconds) / cells) * 1000);
  }

  return { start, stop };
}
