// A list box that draws only the rows in view: thousands of entries cost what a screen of them costs.
const ROW = 56;
const SPARE = 6;

class EntryList {
  /** `describe` makes an entry's nodes, `chosen` is told of each new choice, `picked` of one by
   *  pointer, `enter` of the wish to read it, `search` of the wish to search. */
  constructor(box, { describe, chosen, picked, enter, search }) {
    Object.assign(this, { box, describe, chosen, enter, search, entries: [], at: -1 });
    this.sheet = el("div", { class: "sheet", role: "presentation" });
    box.append(this.sheet);
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-at]");
      if (!row) return;
      this.choose(Number(row.dataset.at));
      picked();
    });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  get entry() {
    return this.entries[this.at] ?? null;
  }

  /** Show other entries; the one that was chosen stays so where it is still there. */
  show(entries, isChosen) {
    this.entries = entries;
    this.at = entries.findIndex(isChosen);
    this.sheet.style.height = `${ROW * entries.length}px`;
    if (this.at < 0) this.box.scrollTop = 0;
    else this.reveal();
    this.draw();
  }

  choose(at) {
    if (!this.entries.length) return;
    this.at = Math.max(0, Math.min(at, this.entries.length - 1));
    this.reveal();
    this.draw();
    this.chosen(this.entry);
  }

  reveal() {
    const { box } = this;
    const top = ROW * this.at;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
  }

  draw() {
    const { box, entries } = this;
    const first = Math.max(Math.floor(box.scrollTop / ROW) - SPARE, 0);
    const end = Math.min(Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE, entries.length);
    const rows = [];
    for (let at = first; at < end; at += 1) rows.push(this.row(at));
    this.sheet.replaceChildren(...rows);
    // A row out of view is not in the page, so nothing may point to it.
    if (this.at >= first && this.at < end) box.setAttribute("aria-activedescendant", `entry-${this.at}`);
    else box.removeAttribute("aria-activedescendant");
  }

  row(at) {
    const row = el(
      "div",
      {
        role: "option",
        id: `entry-${at}`,
        class: "entry",
        "data-at": String(at),
        "aria-selected": String(at === this.at),
        "aria-setsize": String(this.entries.length),
        "aria-posinset": String(at + 1),
      },
      ...this.describe(this.entries[at]),
    );
    row.style.top = `${ROW * at}px`;
    return row;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const screen = Math.max(Math.floor(this.box.clientHeight / ROW) - 1, 1);
    const moves = {
      ArrowDown: this.at + 1,
      ArrowUp: this.at - 1,
      PageDown: this.at + screen,
      PageUp: this.at - screen,
      Home: 0,
      End: this.entries.length - 1,
    };
    if (event.key in moves) this.choose(moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.enter();
    else if (event.key === "/") this.search();
    else return;
    event.preventDefault();
  }
}
