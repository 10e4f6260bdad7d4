// The form: what is asked for, within what the chosen model can do, and how it is sent.

import { call } from "./api.js";
import { $, fill, say } from "./dom.js";
import * as draft from "./draft.js";
import * as prompt from "./prompt.js";
import * as story from "./story.js";
import { t } from "./text.js";
import * as zones from "./zones.js";

const FIELDS = [
  ...["model", "size", "seconds", "seed", "num_inference_steps", "guidance_scale"],
  ...["guidance_scale_2", "flow_shift", "negative_prompt", "lora", "strength"],
];
const SHAPE = ["model", "size", "seconds"];
const STRINGS = new Set([...SHAPE, "negative_prompt", "lora"]);
const SMALL = 256;
const ENLARGE = 8;

let models = [];
let memory = draft.read();
let token = "";

/** What the service says of a model. */
export const known = (name) => models.find((model) => model.id === name);
export const chosen = () => known($("model").value) ?? models[0];
const mode = () => document.querySelector("input[name=mode]:checked").value;

/** Sizes of the file that a model makes: as it draws them, small ones enlarged first. */
function sizes(model) {
  return model.sizes.flatMap((size) => {
    const [width, height] = size.split("x").map(Number);
    const same = [size, size];
    const large = `${width * ENLARGE}x${height * ENLARGE}`;
    if (Math.max(width, height) >= SMALL || model.sizes.includes(large)) return [same];
    return [[large, t("size.enlarged", large, size)], same];
  });
}

/** What is typed, kept for the next visit. */
function keep() {
  const fields = Object.fromEntries(FIELDS.map((name) => [name, $(name).value]));
  memory = { mode: mode(), prompt: $("prompt").value, fields, shots: story.shots() };
  draft.write(memory);
  token = "";
  $("refusal").textContent = "";
}

function restore() {
  for (const [name, value] of Object.entries(memory.fields)) {
    if ($(name) && !(name === "strength" && !value)) $(name).value = value;
  }
}

/** Offer what the service has; `next` is the answer of GET /v1/models. */
export function offer(next) {
  if (JSON.stringify(next) === JSON.stringify(models)) return;
  models = next;
  fill(
    $("model"),
    models.map((model) => [model.id, model.id]),
  );
  restore();
  if (!chosen()) return;
  if (!$("model").value) $("model").value = models[0].id;
  fit();
  restore();
  for (const name of SHAPE) if ($(name).selectedIndex < 0) $(name).selectedIndex = 0;
}

/** Have every field say what the chosen model can do. */
function fit() {
  const model = chosen();
  const lengths = [...model.num_frames].sort((a, b) => a - b);
  fill($("size"), sizes(model));
  fill(
    $("seconds"),
    lengths.map((n) => [`${n / model.fps}`, t("time.seconds", n / model.fps)]),
  );
  if (!memory.fields.seconds) $("seconds").value = `${model.num_frames[0] / model.fps}`;
  $("num_inference_steps").placeholder = model.num_inference_steps;
  $("guidance_scale").placeholder = model.guidance_scale;
  $("guidance_scale_2").placeholder = model.guidance_scale_2 ?? "";
  $("flow_shift").placeholder = model.flow_shift ?? "";
  hide("guidance_scale_2", model.guidance_scale_2 === null);
  hide("flow_shift", model.flow_shift === null);
  hide("lora", !model.loras?.length);
  fill($("lora"), [["", t("lora.none")], ...(model.loras ?? []).map((name) => [name, name])]);
  zones.offer(model);
  story.offer(model);
  prompt.refresh(model);
}

function hide(name, hidden) {
  $(name).closest(".field").hidden = hidden;
  $(name).disabled = hidden;
}

/** Fields that say something, as the API has them. */
function said(names) {
  const filled = names.filter((name) => $(name).value !== "" && !$(name).disabled);
  return Object.fromEntries(
    filled.map((name) => [name, STRINGS.has(name) ? $(name).value : Number($(name).value)]),
  );
}

/** Path and body of the request that the form spells. */
function request() {
  const finer = FIELDS.filter((name) => !SHAPE.includes(name) && name !== "strength");
  if (mode() === "story") {
    const asked = { ...said(["model", "size", ...finer]), shots: story.shots() };
    return ["/v1/videos", { prompt: story.title(), ...asked }];
  }
  const fields = { prompt: $("prompt").value.trim(), ...said(finer) };
  const dropped = zones.dropped();
  const source = dropped.get("remix");
  if (source) fields.strength = Number($("strength").value);
  if (source?.video) return [`/v1/videos/${source.video.id}/remix`, fields];
  const shape = source ? ["model"] : SHAPE;
  const all = { ...fields, ...said(shape) };
  if ($("loop").checked) all.loop = true;
  if (!dropped.size) return ["/v1/videos", all];
  const form = new FormData();
  for (const [name, value] of Object.entries(all)) form.set(name, value);
  const parts = { first_frame: "input_reference", last_frame: "last_frame" };
  for (const [name, { file }] of dropped) {
    form.set(parts[name] ?? (name === "join" ? "next_video" : "video"), file);
  }
  if (source) return ["/v1/videos/edits", form];
  const onward = dropped.has("extend") || dropped.has("join");
  return [onward ? "/v1/videos/extensions" : "/v1/videos", form];
}

/** Send the form; `made` is given the Video. What is typed stays, whatever happens. */
async function send(made, refused) {
  const button = $("go");
  if (button.getAttribute("aria-disabled") === "true") return;
  const first = mode() === "story" ? document.querySelector("#shots textarea") : $("prompt");
  if (!first.value.trim()) return first.focus();
  button.setAttribute("aria-disabled", "true");
  button.textContent = t("go.busy");
  $("refusal").textContent = "";
  const sent = sentence();
  try {
    // The same words get the same key until there is an answer: heard twice, they make one video.
    token ||= crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    const video = await call("POST", ...request(), { headers: { "Idempotency-Key": token } });
    token = "";
    made(video);
    say(t("toast.queued", sent));
  } catch (error) {
    if (error.status !== 0) token = "";
    $("refusal").textContent = error.message;
    mark(error.param);
    refused(error);
  } finally {
    button.setAttribute("aria-disabled", "false");
    button.textContent = t(mode() === "story" ? "go.story" : "go");
  }
}

const sentence = () => (mode() === "story" ? story.title() : $("prompt").value.trim());

/** Show which field a refusal is about, even one that is folded away. */
function mark(param) {
  const field = param && $(param);
  if (!field?.closest?.("#compose")) return;
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.setAttribute("aria-invalid", "true");
  field.addEventListener("input", () => field.removeAttribute("aria-invalid"), { once: true });
}

function turn() {
  const one = mode() === "one";
  $("one").hidden = !one;
  $("story").hidden = one;
  $("sources").hidden = !one;
  $("seconds").closest(".field").hidden = !one;
  $("go").textContent = t(one ? "go" : "go.story");
}

/** Take over the settings of a video. */
export function use(video) {
  const fields = { ...video, guidance_scale: video.guidance_scale ?? "" };
  memory.fields = { ...memory.fields };
  for (const name of FIELDS.filter((name) => name !== "strength")) {
    memory.fields[name] = `${fields[name] ?? ""}`;
  }
  if (video.shots) story.write(video.shots);
  else prompt.write(video.prompt);
  document.querySelector(`input[name=mode][value=${video.shots ? "story" : "one"}]`).checked = true;
  restore();
  if (chosen()) fit();
  restore();
  turn();
  keep();
}

/** Listen; `made(video)` is called for what was queued, `refused(error)` for what was not. */
export function begin(made, refused) {
  $("prompt").value = memory.prompt;
  document.querySelector(`input[name=mode][value=${memory.mode}]`).checked = true;
  story.write(memory.shots);
  restore();
  prompt.begin(keep);
  prompt.refresh();
  zones.begin(keep);
  story.begin(keep);
  turn();
  const form = $("compose");
  form.addEventListener("input", keep);
  form.addEventListener("change", (event) => {
    if (event.target === $("model")) fit();
    if (event.target.name === "mode") turn();
    keep();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(made, refused);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  $("dice").addEventListener("click", () => {
    $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
    keep();
  });
}
