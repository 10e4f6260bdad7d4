// Deleting with a way back: a video is out of sight at once, and gone when nobody wants it back.

import { call } from "./api.js";
import { say } from "./dom.js";
import { t } from "./text.js";
import { toast } from "./toast.js";

const SECONDS = 7;
const waiting = new Set();

/** Hide a video, and delete it unless that is undone in time. `focus(id)` goes back to its card. */
export function put(video, library, focus) {
  // What has the focus goes out of sight, so that it has to go somewhere.
  const byKeyboard = document.activeElement.matches(":focus-visible");
  waiting.add(video.id);
  library.hide(video.id, true);
  const undo = () => {
    waiting.delete(video.id);
    library.hide(video.id, false);
    say(t("toast.undone"));
    if (byKeyboard) focus(video.id);
  };
  const note = toast(t("toast.deleted"), [t("toast.undo"), undo], SECONDS, () =>
    remove(video.id, library),
  );
  if (byKeyboard) note.querySelector("button").focus();
}

async function remove(id, library) {
  if (!waiting.delete(id)) return;
  try {
    await call("DELETE", `/v1/videos/${id}`, undefined, { keepalive: true });
    library.drop(id);
  } catch (error) {
    if (error.status === 404) return library.drop(id);
    toast(error.message);
  }
  library.hide(id, false);
}

/** Whoever leaves the page meant it. */
export function begin(library) {
  addEventListener("pagehide", () => [...waiting].forEach((id) => remove(id, library)));
}
