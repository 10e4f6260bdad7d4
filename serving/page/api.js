// The service, as the page asks it: the API key, errors as sentences, files, and event streams.

import { t } from "./text.js";

const STORED = "kinetograph.key";

/** What the service, or the way to it, refused. `status` 0: it was not reached. */
export class Refusal extends Error {
  constructor(status, error) {
    super(sentence(status, error));
    Object.assign(this, { status, code: error.code, param: error.param });
  }
}

function sentence(status, error) {
  if (status === 0) return t("error.unreachable");
  return status === 401 ? t("error.key") : explain(error);
}

/** What went wrong, after what can be done about it. */
export function explain({ message, code }) {
  const known = t(`error.${code}`);
  return known === `error.${code}` ? message : `${known} ${message}`;
}

export const key = () => localStorage.getItem(STORED) || "";

export function setKey(value) {
  if (value) localStorage.setItem(STORED, value);
  else localStorage.removeItem(STORED);
  for (const url of kept.values()) url.then(URL.revokeObjectURL, () => {});
  kept.clear();
}

/** Fetch a path of the service. Throws a Refusal for whatever is not an answer. */
async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { code: "unreachable" });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = body?.error ?? { message: `${response.status} ${response.statusText}` };
  // What a proxy says while the service is away is not the service's word.
  throw new Refusal(
    body?.error ? response.status : response.status >= 502 ? 0 : response.status,
    error,
  );
}

/** The JSON answer to a call. `body`: FormData as it is, anything else as JSON. */
export async function call(method, path, body, options = {}) {
  const form = body instanceof FormData;
  const headers = { ...options.headers };
  if (body && !form) headers["Content-Type"] = "application/json";
  const sent = body && (form ? body : JSON.stringify(body));
  const response = await ask(path, { ...options, method, headers, body: sent });
  return response.json();
}

const contentPath = (video, variant) => `/v1/videos/${video.id}/content?variant=${variant}`;
const KEPT = 240;
const kept = new Map();

/** An address that an element can load: with a key, of a copy, as elements cannot send one. */
export function media(video, variant) {
  const path = contentPath(video, variant);
  if (!key()) return Promise.resolve(path);
  if (!kept.has(path)) {
    const copy = ask(path).then(async (response) => URL.createObjectURL(await response.blob()));
    copy.catch(() => kept.delete(path));
    kept.set(path, copy);
    for (const [old, url] of kept) {
      if (kept.size <= KEPT) break;
      kept.delete(old);
      url.then(URL.revokeObjectURL, () => {});
    }
  }
  return kept.get(path);
}

/** Follow a job: `tell(name, data)` for every event, until it is over or `signal` says stop. */
export async function follow(id, tell, signal) {
  const response = await ask(`/v1/videos/${id}/events?preview=true`, { signal });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = events.pop();
    for (const event of events) {
      const fields = event.split("\n").map((line) => line.match(/^(event|data): ?(.*)$/s));
      const found = Object.fromEntries(fields.filter(Boolean).map((field) => field.slice(1)));
      if (found.data) tell(found.event, JSON.parse(found.data));
    }
  }
}
