// The videos that the page knows of: the service's list, a page at a time, newest first.

import { call } from "./api.js";

const PAGE = 60;
export const active = (video) => video.status === "queued" || video.status === "in_progress";

export class Library extends EventTarget {
  items = [];
  filters = { text: "", model: "", status: "" };
  complete = false;
  #run = 0;
  #loading = null;
  #hidden = new Set();

  /** Begin anew, with other filters. What was there stays until the answer is. */
  async restart(filters = this.filters) {
    this.filters = filters;
    this.#run += 1;
    this.#loading = null;
    const page = await this.#page();
    if (!page) return;
    this.items = page.data;
    this.complete = !page.has_more;
    this.#changed();
  }

  /** Fetch the page that follows; at once only one. */
  more() {
    if (this.complete || this.#loading || !this.items.length) return;
    const after = this.items.findLast((video) => !video.isNew)?.id;
    this.#loading = this.#page(after)
      .then((page) => {
        if (!page) return;
        const known = new Set(this.items.map((video) => video.id));
        this.items.push(...page.data.filter((video) => !known.has(video.id)));
        this.complete = !page.has_more;
        this.#loading = null;
        this.#changed();
      })
      .catch(() => (this.#loading = null));
  }

  /** Look what is new, and what is gone, at the top of the list. */
  async refresh() {
    const page = await this.#page();
    if (!page) return;
    const told = new Map(page.data.map((video) => [video.id, video]));
    const last = page.data.at(-1);
    const depth = page.has_more ? this.items.findIndex((video) => video.id === last?.id) : -1;
    const below = page.has_more && depth >= 0 ? this.items.slice(depth + 1) : [];
    this.items = [...page.data, ...below.filter((video) => !told.has(video.id))];
    if (depth < 0) this.complete = !page.has_more;
    this.#changed();
  }

  /** Take note of how a video stands now; one that was unknown comes first. */
  put(video, isNew = false) {
    const at = this.items.findIndex((other) => other.id === video.id);
    if (at >= 0) this.items[at] = video;
    else if (isNew && this.#fits(video)) this.items.unshift({ ...video, isNew });
    else return;
    this.#changed();
  }

  hide(id, hidden) {
    this.#hidden[hidden ? "add" : "delete"](id);
    this.#changed();
  }

  /** Forget a video that is gone. */
  drop(id) {
    this.items = this.items.filter((video) => video.id !== id);
    this.#changed();
  }

  get shown() {
    return this.#hidden.size
      ? this.items.filter((video) => !this.#hidden.has(video.id))
      : this.items;
  }

  find(id) {
    return this.items.find((video) => video.id === id);
  }

  /** Whether a video ought to be in the list, and is not. */
  lacks(video) {
    return this.#fits(video) && !this.find(video.id);
  }

  #fits(video) {
    const { text, model, status } = this.filters;
    const named = video.prompt.toLowerCase().includes(text.toLowerCase());
    return named && (!model || model === video.model) && (!status || status.includes(video.status));
  }

  async #page(after) {
    const run = this.#run;
    const asked = Object.entries({ ...this.filters, after, limit: PAGE }).filter(
      ([, value]) => value,
    );
    const page = await call("GET", `/v1/videos?${new URLSearchParams(asked)}`);
    return run === this.#run ? page : null;
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
