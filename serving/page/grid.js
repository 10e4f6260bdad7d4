// A wall of thousands of cards of which only those in sight are elements.

const GAP = 20;
const BEYOND = 500; // pixels above and below the window that are drawn, too

export class Grid {
  #box;
  #make;
  #nodes = new Map();
  #items = [];
  #frame = 0;
  #columns = 1;
  #rowHeight = 1;

  /** make(video): `{ node, update(video, index, count), gone() }`. onEnd: the end is near. */
  constructor(box, { make, narrowest, caption, onEnd }) {
    this.#box = box;
    this.#make = make;
    Object.assign(this, { narrowest, caption, onEnd, aspect: 1 });
    addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#soon()).observe(box);
    box.addEventListener("keydown", (event) => this.#walk(event));
  }

  show(items) {
    this.#items = items;
    this.#soon();
  }

  /** The card of a video, if it is drawn. */
  card(id) {
    return this.#nodes.get(id);
  }

  /** Draw what is new, and give the card of a video the focus. */
  focus(id) {
    this.#draw();
    this.#nodes.get(id)?.node.querySelector(".open").focus();
  }

  #soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const width = this.#box.clientWidth;
    if (!width) return;
    const narrowest = Math.min(this.narrowest, (width - GAP) / 2);
    this.#columns = Math.max(1, Math.floor((width + GAP) / (narrowest + GAP)));
    const cell = (width - GAP * (this.#columns - 1)) / this.#columns;
    this.#rowHeight = Math.round(cell / this.aspect) + this.caption + GAP;
    const rows = Math.ceil(this.#items.length / this.#columns);
    this.#box.style.height = `${rows * this.#rowHeight}px`;
    const top = -this.#box.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((top - BEYOND) / this.#rowHeight)) * this.#columns;
    const last = Math.ceil((top + innerHeight + BEYOND) / this.#rowHeight) * this.#columns;
    const visible = this.#items.slice(first, Math.max(first, last));
    this.#forget(new Set(visible.map((video) => video.id)));
    visible.forEach((video, i) => this.#place(video, first + i, cell));
    this.#order(visible);
    if (last >= this.#items.length - this.#columns) this.onEnd();
  }

  #forget(kept) {
    for (const [id, card] of this.#nodes) {
      const focused = card.node.contains(document.activeElement);
      if (kept.has(id) || (focused && this.#items.some((video) => video.id === id))) continue;
      card.gone();
      card.node.remove();
      this.#nodes.delete(id);
    }
  }

  /** Have the elements follow one another as they are seen, for whoever goes by Tab. */
  #order(visible) {
    let next = null;
    for (const { id } of [...visible].reverse()) {
      const { node } = this.#nodes.get(id);
      // One that has the focus would lose it by a move; the others are put around it.
      if (node.nextElementSibling !== next && !node.contains(document.activeElement))
        this.#box.insertBefore(node, next);
      next = node;
    }
  }

  #place(video, index, cell) {
    let card = this.#nodes.get(video.id);
    if (!card) {
      card = this.#make(video);
      this.#nodes.set(video.id, card);
      this.#box.append(card.node);
    }
    const [row, column] = [Math.floor(index / this.#columns), index % this.#columns];
    const { style } = card.node;
    style.width = `${cell}px`;
    style.height = `${this.#rowHeight - GAP}px`;
    style.transform = `translate(${column * (cell + GAP)}px, ${row * this.#rowHeight}px)`;
    card.node.dataset.index = index;
    card.update(video, index, this.#items.length);
  }

  /** Arrow keys go from card to card. */
  #walk(event) {
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.#columns,
      ArrowDown: this.#columns,
    };
    const card = event.target.closest("[data-index]");
    if (!card || !(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    const index = Number(card.dataset.index) + steps[event.key];
    const video = this.#items[index];
    if (!video) return;
    event.preventDefault();
    const row = Math.floor(index / this.#columns) * this.#rowHeight;
    const top = this.#box.getBoundingClientRect().top + row;
    if (top < 80 || top + this.#rowHeight > innerHeight) {
      scrollBy(0, top - innerHeight / 2 + this.#rowHeight / 2);
      this.#draw();
    }
    this.#nodes.get(video.id)?.node.querySelector(".open").focus({ preventScroll: true });
  }
}
