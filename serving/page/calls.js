// The curl command and the Python program that make a video again.

import { key } from "./api.js";

const sent = ["model", "size", "seconds"];
const extra = [
  ...["seed", "num_inference_steps", "guidance_scale", "guidance_scale_2", "flow_shift"],
  ...["negative_prompt", "lora", "strength", "shots"],
];
const told = (video, name) => (video[name] ?? "") !== "";
const given = (video, names) =>
  Object.fromEntries(names.filter((name) => told(video, name)).map((name) => [name, video[name]]));

/** What a request for this video says. A remix takes size and seconds from its source. */
export function request(video) {
  const source = video.remixed_from_video_id;
  const fields = {
    prompt: video.prompt,
    ...given(video, source ? [] : sent),
    ...given(video, extra),
  };
  if (video.shots) delete fields.seconds;
  return fields;
}

export function curl(video, origin = location.origin) {
  const source = video.remixed_from_video_id;
  const path = source ? `/v1/videos/${source}/remix` : "/v1/videos";
  const body = JSON.stringify(request(video)).replaceAll("'", "'\\''");
  const auth = key() ? ` \\\n  -H "Authorization: Bearer $KINETOGRAPH_KEY"` : "";
  return `curl ${origin}${path}${auth} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
}

/** A value as Python writes it. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([name, item]) => `"${name}": ${literal(item)}`);
  return `{${items.join(", ")}}`;
}

export function python(video, origin = location.origin) {
  const source = video.remixed_from_video_id;
  const body = request(video);
  const lines = [`prompt=${literal(video.prompt)},`];
  if (source) lines.unshift(`"${source}",`);
  for (const name of sent.filter((name) => name in body))
    lines.push(`${name}=${literal(body[name])},`);
  const more = given(body, extra);
  if (Object.keys(more).length) lines.push(`extra_body=${literal(more)},`);
  return `import os

from openai import OpenAI

api_key = ${key() ? 'os.environ["KINETOGRAPH_KEY"]' : '"any"'}
client = OpenAI(base_url="${origin}/v1", api_key=api_key)
video = client.videos.${source ? "remix" : "create"}(
${lines.map((line) => `    ${line}`).join("\n")}
)
video = client.videos.poll(video.id)
client.videos.download_content(video.id).write_to_file("video.mp4")`;
}
