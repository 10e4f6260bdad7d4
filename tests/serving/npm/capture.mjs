// Every videos call of the npm client, against the URL given: `node capture.mjs http://host:port/v1`.
// Run by hand with capture.py, where `npm install openai` has been run.
import { readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "sk-test", maxRetries: 0 });
const id = "video_00000000000000000000000000000000";
const prompt = "a red ball is dropped and bounces";
const clip = () => toFile(readFileSync(new URL("clip.mp4", import.meta.url)), "clip.mp4", { type: "video/mp4" });
const image = () => toFile(readFileSync(new URL("frame.png", import.meta.url)), "frame.png", { type: "image/png" });

const calls = {
  create: () => client.videos.create({ prompt }),
  create_options: () => client.videos.create({ prompt: "一只红球弹起 café", model: "sora-2", seconds: "4", size: "720x1280" }),
  create_extras: () => client.videos.create({ prompt, size: "64x64", seed: 11, num_inference_steps: 1, guidance_scale: 1.5 }),
  create_idempotent: () => client.videos.create({ prompt, size: "64x64", num_inference_steps: 1 }, { headers: { "Idempotency-Key": "npm-1" } }),
  create_image: async () => client.videos.create({ prompt, input_reference: await image() }),
  create_image_url: () => client.videos.create({ prompt, input_reference: { image_url: "https://example.com/a.png" } }),
  create_file_id: () => client.videos.create({ prompt, input_reference: { file_id: "file-1" } }),
  retrieve: () => client.videos.retrieve(id),
  list: () => client.videos.list({ limit: 2, order: "asc" }),
  content: () => client.videos.downloadContent(id),
  thumbnail: () => client.videos.downloadContent(id, { variant: "thumbnail" }),
  remix: () => client.videos.remix(id, { prompt: "a blue cat walks left" }),
  edit_upload: async () => client.videos.edit({ prompt: "a blue cat walks left", video: await clip() }),
  edit_made: () => client.videos.edit({ prompt: "a blue cat walks left", video: { id } }),
  extend: async () => client.videos.extend({ prompt, seconds: "4", video: await clip() }),
  create_character: async () => client.videos.createCharacter({ name: "Mia", video: await clip() }),
  get_character: () => client.videos.getCharacter("char_1"),
  models: () => client.models.list(),
  delete: () => client.videos.delete(id),
};

for (const [name, call] of Object.entries(calls)) {
  await fetch(new URL("/capture/" + name, process.argv[2]));
  await call().catch((error) => console.error(name, error.message));
}
