// The studio: what is typed on one side, what was made of it on the other.

import * as api from "./api.js";
import { aspect, makeCard } from "./card.js";
import * as compose from "./compose.js";
import { $, fill, say } from "./dom.js";
import { Grid } from "./grid.js";
import { Library } from "./library.js";
import { Live } from "./live.js";
import { chinese, t, translate } from "./text.js";
import { toast } from "./toast.js";
import * as trash from "./trash.js";
import * as viewer from "./viewer.js";
import * as zones from "./zones.js";

const library = new Library();
const live = new Live(library);
const preview = (id) => live.previews.get(id);
const acts = { open: viewer.open, cancel, remove, again, preview };
const grid = new Grid($("wall"), {
  make: (video) => makeCard(video, acts),
  narrowest: 220,
  // Of .prompt and .foot: or the pictures were lower than their frames are wide.
  caption: Math.ceil(4.414 * parseFloat(getComputedStyle(document.documentElement).fontSize)),
  onEnd: () => library.more(),
});

function draw() {
  const videos = library.shown;
  grid.show(videos);
  const filtered = Object.values(library.filters).some(Boolean);
  $("wall-empty").hidden = videos.length > 0;
  $("wall-empty-text").textContent = t(filtered ? "wall.none" : "wall.empty");
  $("clear").hidden = !filtered;
}

function made(video) {
  library.put(video, true);
  zones.clear();
  live.now();
  if (matchMedia("(max-width: 60rem)").matches) $("wall-title").scrollIntoView({ block: "start" });
}

function refused(error) {
  if (error.status === 401) askKey();
}

async function act(does) {
  try {
    return await does();
  } catch (error) {
    refused(error);
    toast(error.message);
  }
}

function cancel(video) {
  act(async () => library.put(await api.call("POST", `/v1/videos/${video.id}/cancel`)));
}

function remove(video) {
  trash.put(video, library, (id) => grid.focus(id));
}

function again(video) {
  const { remixed_from_video_id: source } = video;
  compose.use(video);
  if (source) act(async () => zones.remixOf(await api.call("GET", `/v1/videos/${source}`)));
  $("prompt").focus();
}

async function remix(video) {
  compose.use(video);
  zones.remixOf(video);
  $("prompt").focus();
  $("prompt").select();
}

/** What the service has: models, and the videos so far. */
async function meet() {
  const models = (await api.call("GET", "/v1/models")).data;
  const names = models.map((model) => [model.id, model.id]);
  fill($("filter-model"), [["", t("filter.any")], ...names]);
  compose.offer(models);
  if (models.length)
    grid.aspect = Math.min(1.8, Math.max(0.75, aspect({ size: models[0].sizes[0] })));
  return models.length > 0;
}

let met = false;

live.addEventListener("reached", () => {
  $("lost").hidden = true;
  if (!met) begin();
});
live.addEventListener("lost", ({ detail }) => {
  met = false;
  if (detail.error.status === 401) return askKey();
  $("lost-text").textContent = detail.error.status > 0 ? detail.error.message : t("lost");
  $("lost").hidden = false;
});
live.addEventListener("preview", ({ detail }) => {
  grid.card(detail.id)?.show();
  viewer.preview(detail);
});
live.addEventListener("over", ({ detail: { video } }) => {
  const done = video.status === "completed";
  if (done || video.error?.code !== "cancelled") {
    say(t(done ? "toast.finished" : "toast.failed", video.prompt));
  }
});
library.addEventListener("change", () => {
  draw();
  library.items.forEach(viewer.note);
});

async function begin() {
  met = true;
  try {
    const ready = await meet();
    await library.restart();
    if (!ready) setTimeout(begin, 1000);
  } catch (error) {
    met = false;
    if (error.status === 401) askKey();
  }
}

function askKey(wanted = true) {
  const dialog = $("key-dialog");
  if (dialog.open) return;
  $("key-title").textContent = t(wanted ? "key.title" : "key.label");
  $("key-wrong").textContent = wanted && api.key() ? t("key.wrong") : "";
  $("key-forget").hidden = !api.key();
  dialog.showModal();
}

function settings() {
  $("key-button").addEventListener("click", () => askKey(false));
  $("key-dialog")
    .querySelector("form")
    .addEventListener("submit", () => {
      api.setKey($("key").value.trim());
      $("key").value = "";
      live.now();
    });
  $("key-forget").addEventListener("click", () => {
    api.setKey("");
    $("key-dialog").close();
    location.reload();
  });
  $("theme").addEventListener("click", () => {
    const { dataset } = document.documentElement;
    const dark =
      dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    dataset.theme = dark === "dark" ? "light" : "dark";
    localStorage.setItem("kinetograph.theme", dataset.theme);
  });
  $("language").addEventListener("click", () => {
    localStorage.setItem("kinetograph.language", chinese ? "en" : "zh");
    location.reload();
  });
  $("retry").addEventListener("click", () => live.now());
}

function filters() {
  let timer = 0;
  const apply = () => {
    const asked = { text: $("filter-text").value.trim(), model: $("filter-model").value };
    act(() => library.restart({ ...asked, status: $("filter-status").value }));
  };
  $("filter-text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(apply, 200);
  });
  for (const id of ["filter-model", "filter-status"]) $(id).addEventListener("change", apply);
  $("clear").addEventListener("click", () => {
    for (const id of ["filter-text", "filter-model", "filter-status"]) $(id).value = "";
    apply();
  });
}

translate();
if (chinese) document.title = `Kinetograph · ${t("app.lead")}`;
settings();
filters();
compose.begin(made, refused);
viewer.begin({
  remix,
  use: compose.use,
  remove,
  preview,
  model: compose.known,
});
trash.begin(library);
live.now();
