// Keeps the library true: one look at all jobs every so often, and a stream of those that run.
//
// A browser opens six connections to a service at most, over all its tabs, so a stream for every
// job would starve the page: only what runs has one, and only while somebody can see it.

import { Refusal, call, follow } from "./api.js";
import { active } from "./library.js";

const BUSY = 1500;
const IDLE = 6000;
const LONGEST = 15_000;
const STREAMS = 2;

export class Live extends EventTarget {
  previews = new Map();
  #library;
  #timer = 0;
  #failures = 0;
  #streams = new Map();

  constructor(library) {
    super();
    this.#library = library;
    document.addEventListener("visibilitychange", () => this.now());
  }

  /** Look at once, and from then on. */
  now() {
    clearTimeout(this.#timer);
    if (document.hidden) {
      this.#watch([]);
      return;
    }
    this.#look().then(
      (busy) => {
        this.#failures = 0;
        this.#tell("reached");
        this.#again(busy ? BUSY : IDLE);
      },
      (error) => {
        if (!(error instanceof Refusal)) console.error(error);
        const wait = Math.min(LONGEST, 1000 * 2 ** this.#failures++);
        this.#tell("lost", { error, wait });
        if (error.status !== 401) this.#again(wait);
      },
    );
  }

  #again(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.now(), wait);
  }

  async #look() {
    const jobs = (await call("GET", "/v1/videos?status=queued,in_progress&limit=100")).data;
    const open = new Set(jobs.map((job) => job.id));
    jobs.forEach((job) => this.#note(job, false));
    const over = this.#library.items.filter((video) => active(video) && !open.has(video.id));
    await Promise.all(over.slice(0, 10).map((video) => this.#ask(video.id)));
    if (!jobs.length || jobs.some((job) => this.#library.lacks(job))) await this.#library.refresh();
    this.#watch(jobs.filter((job) => job.status === "in_progress").slice(-STREAMS));
    return jobs.length > 0;
  }

  async #ask(id) {
    try {
      this.#note(await call("GET", `/v1/videos/${id}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.#library.drop(id);
    }
  }

  #note(video) {
    const before = this.#library.find(video.id);
    this.#library.put(video);
    if (!active(video)) {
      this.previews.delete(video.id);
      if (before && active(before)) this.#tell("over", { video });
    }
  }

  #watch(jobs) {
    for (const [id, stop] of this.#streams) {
      if (!jobs.some((job) => job.id === id)) {
        stop.abort();
        this.#streams.delete(id);
      }
    }
    for (const job of jobs.filter((job) => !this.#streams.has(job.id))) {
      const stop = new AbortController();
      this.#streams.set(job.id, stop);
      follow(job.id, (name, data) => this.#hear(name, data), stop.signal)
        .catch(() => {}) // the next look begins it anew
        .finally(() => this.#streams.get(job.id) === stop && this.#streams.delete(job.id));
    }
  }

  #hear(name, data) {
    if (name === "video.deleted") this.#library.drop(data.id);
    else if (name === "video.preview") {
      this.previews.set(data.id, data);
      this.#tell("preview", data);
    } else this.#note(data);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
