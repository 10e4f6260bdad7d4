// Every word of the page, in English and in Chinese. `{0}` is filled in; nothing is markup.

import { CHINESE } from "./text-zh.js";

const ENGLISH = {
  "app.lead": "Writing in motion",
  "app.skip": "Skip to the videos",
  "app.docs": "API",
  "app.theme": "Light or dark",
  "app.language": "中文",
  "app.key": "API key",
  "mode.name": "What to make",
  "mode.one": "One shot",
  "mode.story": "Storyboard",
  prompt: "What should be seen?",
  "prompt.hint": "A sentence. Chips below go on from what is typed.",
  "prompt.unknown": "{0} never learned {1}.",
  "prompt.whole": "A sentence that {0} knows.",
  chips: "Suggestions",
  model: "Model",
  size: "Size",
  "size.enlarged": "{0}, drawn at {1}",
  seconds: "Seconds",
  "seconds.frames": "{0} s · {1} frames",
  seed: "Seed",
  "seed.random": "random",
  "seed.dice": "Another seed",
  more: "Fine settings",
  steps: "Steps",
  guidance: "Guidance",
  guidance2: "Guidance, second expert",
  shift: "Shift of the schedule",
  negative: "What to lead away from",
  lora: "Adapter",
  "lora.none": "none",
  start: "Start from a picture or a clip",
  "start.nothing": "{0} starts from words alone.",
  "zone.first_frame": "First frame",
  "zone.last_frame": "Last frame",
  "zone.extend": "Clip to go on from",
  "zone.join": "Clip to lead into",
  "zone.remix": "Clip to remix",
  "zone.picture": "Drop a picture, or choose one",
  "zone.clip": "Drop a clip, or choose one",
  "zone.remove": "Remove",
  "zone.wrong": "{0} cannot be used here: a {1} is wanted.",
  "zone.kind.image": "PNG, JPEG or WebP picture",
  "zone.kind.video": "MP4 or WebM clip",
  loop: "Loop: the end leads back to the start",
  strength: "How far it may leave the clip",
  go: "Make the video",
  "go.story": "Make the film",
  "go.busy": "Sending…",
  shot: "Shot {0}",
  "shot.prompt": "What shot {0} shows",
  "shot.up": "Move shot {0} up",
  "shot.down": "Move shot {0} down",
  "shot.remove": "Remove shot {0}",
  "shot.drag": "Drag shot {0}",
  "shot.join": "Shot {0} begins with",
  "shot.cut": "a cut",
  "shot.continue": "the last picture",
  "shot.add": "Add a shot",
  "shot.total": "{0} shots · {1} s · {2} frames",
  "shot.moved": "Shot {0} is now shot {1}.",
  wall: "Videos",
  "wall.empty": "Nothing here yet. The first video begins with a sentence.",
  "wall.none": "No video fits these filters.",
  "wall.clear": "Clear the filters",
  "filter.text": "Search prompts",
  "filter.model": "Model",
  "filter.status": "State",
  "filter.any": "All models",
  "filter.all": "All states",
  "status.queued": "Waiting",
  "status.in_progress": "Being made",
  "status.completed": "Finished",
  "status.failed": "Failed",
  "status.cancelled": "Cancelled",
  "job.next": "Next in line",
  "job.behind": "{0} before it",
  "job.left": "about {0} left",
  "job.percent": "{0} %",
  "card.open": "Open: {0}",
  "card.cancel": "Cancel",
  "card.delete": "Delete",
  "card.again": "Try again",
  "time.seconds": "{0} s",
  "time.minutes": "{0} min",
  "time.hours": "{0} h",
  "view.close": "Close",
  "view.play": "Play",
  "view.pause": "Pause",
  "view.loop": "Loop",
  "view.back": "One frame back",
  "view.forward": "One frame forward",
  "view.frame": "Frame",
  "view.frame.of": "Frame {0} of {1}",
  "view.download": "Download",
  "view.remix": "Remix",
  "view.settings": "Use these settings",
  "view.compare.with": "Compare with",
  "view.compare.none": "Nothing: one video alone",
  "view.delete": "Delete",
  "view.call": "The call that makes it",
  "view.copy": "Copy",
  "view.copied": "Copied.",
  "view.uncopied": "The browser does not allow copying; select the text instead.",
  "view.provenance": "Verify provenance",
  "view.warnings": "What differs from what was asked",
  "view.lineage": "Lineage",
  "view.parent": "A remix of",
  "view.children": "Remixed as",
  "view.made": "Made",
  "view.took": "Took",
  "view.length": "Length",
  "view.preview": "As it looks so far",
  "verdict.trusted": "Unchanged since it was made here.",
  "verdict.valid, unknown signer": "Unchanged, but this service does not know who signed it.",
  "verdict.tampered": "It was changed after it was signed.",
  "verdict.absent": "It carries no manifest.",
  "toast.deleted": "Deleted.",
  "toast.undo": "Undo",
  "toast.undone": "It is back.",
  "toast.finished": "Finished: {0}",
  "toast.failed": "Failed: {0}",
  "toast.queued": "Queued: {0}",
  "key.title": "This service wants an API key",
  "key.text":
    "Whoever runs the service makes one by “kinetograph keys create”. It stays in this browser.",
  "key.label": "API key",
  "key.save": "Use this key",
  "key.forget": "Forget the key",
  "key.wrong": "That key is not known here; it may have expired.",
  lost: "The service does not answer. Trying again; what you typed is kept.",
  "lost.now": "Try now",
  "error.unreachable":
    "The service does not answer. What you typed is kept; try again in a moment.",
  "error.key": "The service wants an API key.",
  "error.queue_full": "The queue is full: wait for a video to finish, or cancel one.",
  "error.rate_limit_exceeded": "That was too many in a short time; wait a little.",
  "error.quota_exceeded": "All that this key may ask for today is used up.",
  "error.content_policy_violation": "The content policy refuses this prompt; change the words.",
  "error.model_loading": "The model is still being loaded; try again in a moment.",
  "error.storage_full": "The disk of the service is full: delete videos, or tell who runs it.",
  "error.out_of_memory": "Choose a smaller size or fewer seconds.",
  "error.worker_crashed": "Try again; if it fails again, choose a smaller size.",
  "code.title": "Ask it from code",
};

const texts = document.documentElement.lang.startsWith("zh") ? { ...ENGLISH, ...CHINESE } : ENGLISH;

export const chinese = texts !== ENGLISH;

/** The text of that name with its places filled in; the name itself if there is none. */
export function t(name, ...values) {
  const text = texts[name] ?? name;
  return text.replace(/\{(\d)\}/g, (_, place) => values[place]);
}

/** Put every element of the page that names a text into the page's language. */
export function translate(root = document) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.matches("button, a")) node.title = t(node.dataset.tLabel);
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) {
    node.placeholder = t(node.dataset.tPlaceholder);
  }
  document.documentElement.classList.remove("untranslated");
}

/** A time to wait, in words, no finer than it is known. */
export function duration(seconds) {
  if (seconds < 90) return t("time.seconds", Math.max(1, Math.round(seconds)));
  if (seconds < 5400) return t("time.minutes", Math.round(seconds / 60));
  return t("time.hours", Math.round(seconds / 3600));
}

export const date = (seconds) =>
  new Date(seconds * 1000).toLocaleString(chinese ? "zh-CN" : "en", {
    dateStyle: "medium",
    timeStyle: "short",
  });
