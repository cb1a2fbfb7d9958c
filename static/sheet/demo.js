// The short run in the place of a headline: a red word that is pressed tells what else it could have been, and one of those
// goes on in the sheet below.

import { Panel } from "./panel.js";

const KEYS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };

export class Demo {
  // `chose({run, sample, place, token})` is called for an alternative, token null for "again from here".
  constructor(root, base, chose) {
    this.root = root;
    this.story = root.querySelector(".story");
    this.run = root.dataset.run;
    this.current = null;
    this.words = [...root.querySelectorAll(".continuation [data-n]")];
    for (const word of this.words) {
      word.setAttribute("role", "button");
      word.setAttribute("tabindex", "-1");
    }
    const place = { // what the panel asks of a view, with words for positions
      coordsAtPos: (word, side) => (side > 0 ? word.getClientRects()[0] : [...word.getClientRects()].at(-1)),
      focus: () => this.current?.focus({ preventScroll: true }),
    };
    this.panel = new Panel(root.querySelector(".token"), base, place, chose, () => this.mark(null));
    this.story.addEventListener("click", ({ target }) => this.words.includes(target) && this.look(target));
    this.story.addEventListener("keydown", (event) => this.key(event));
  }

  mark(word) {
    for (const one of this.words) one.classList.toggle("looking", one === word);
  }

  look(word) {
    this.current = word;
    this.mark(word);
    return this.panel.show({ value: { run: this.run, sample: 0, place: Number(word.dataset.n) }, from: word, to: word });
  }

  async key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.words.indexOf(event.target);
    if (event.key in KEYS) {
      event.preventDefault();
      const by = KEYS[event.key] * (getComputedStyle(this.story).direction === "rtl" && event.key.match(/Left|Right/) ? -1 : 1);
      const next = this.words[Math.min(this.words.length - 1, Math.max(0, at + by))];
      next.focus({ preventScroll: true });
      this.look(next);
    } else if (at >= 0 && ["Enter", " "].includes(event.key)) {
      event.preventDefault();
      await this.look(event.target);
      this.panel.focus();
    }
  }

  // It has been looked at: what is written now is in the sheet.
  leave() {
    this.panel.close();
    this.root.hidden = true;
  }

  destroy() {
    this.panel.destroy();
  }
}
