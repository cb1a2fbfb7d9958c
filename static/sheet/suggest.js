// Three short ways on at the caret: asked for by Tab or by a button, shown under the line as they are written, and in the
// text once one is taken, whole or word by word. The text has the keyboard all the while.

import { StateEffect, StateField } from "@codemirror/state";
import { Direction, EditorView } from "@codemirror/view";
import { Lines } from "./lines.js";
import { latest, remote } from "./marks.js";
import { placeBelow } from "./place.js";
import { points } from "./points.js";

const COUNT = 3;
const WORD = /^\s*[^\p{L}\p{N}\s]*(?:\p{Ideographic}|[\p{L}\p{M}\p{N}'’]+)?[^\p{L}\p{N}\s]*/u; // with what stands around it
export const isMac = /Mac|iP(hone|ad)/.test(navigator.platform);
const MODIFIERS = ["Shift", "Control", "Alt", "Meta", "AltGraph", "CapsLock"];

const setChosen = StateEffect.define(); // the number of the one that is chosen, or null where none is shown

// Tells assistive technology which one is chosen, as the text keeps the focus.
export const chosen = StateField.define({
  create: () => null,
  update: (value, { effects }) => latest(effects, setChosen, value),
  provide: (field) => EditorView.contentAttributes.from(field, (number) => (number === null ? {} : {
    "aria-controls": "suggestions",
    "aria-activedescendant": `suggestion-${number}`,
  })),
});

// How many of some cells are the first word of them.
export function cellsOfWord(cells) {
  let left = cells.map(([text]) => text).join("").match(WORD)[0].length;
  let count = 0;
  while (count < cells.length && left > 0) {
    left -= cells[count][0].length;
    count += 1;
  }
  return count;
}

const tokensOf = (cells) => cells.reduce((sum, [, count]) => sum + count, 0);

export class Suggest {
  // `page` has fields() with the settings, clear() of what was said before, refused(refusal), and `troubles`
  constructor(box, base, view, session, page) {
    Object.assign(this, { box, base, view, session, page, rows: [], taking: 0, escaped: false, turns: 0 });
    this.list = box.querySelector("ol");
    this.note = box.querySelector(".note");
    box.querySelector(".word-key").textContent = isMac ? "⌥ →" : "Ctrl →";
    box.addEventListener("pointerdown", (event) => event.preventDefault()); // the text keeps the focus
    box.addEventListener("click", ({ target }) => {
      const row = target.closest("li");
      if (row) this.take([...this.list.children].indexOf(row));
      else if (target.closest(".close")) this.close();
    });
    this.end = new AbortController();
    const { signal } = this.end;
    document.addEventListener("pointerdown", ({ target }) => {
      this.escaped = false;
      if (!box.contains(target) && !view.dom.contains(target) && !target.closest("[data-do=suggest]")) this.close();
    }, { signal });
    document.addEventListener("keydown", ({ key }) => { this.escaped ||= key === "Escape"; }, { signal, capture: true }); // wherever it was
    window.addEventListener("resize", () => this.place(), { signal });
  }

  get isOpen() {
    return !this.box.hidden;
  }

  get may() {
    return !this.session.writing && [null, "take"].includes(this.session.pressing);
  }

  // --- keys; answers whether one is its own

  key(event) {
    const { key, shiftKey, ctrlKey, altKey, metaKey } = event;
    if (event.isComposing || this.view.composing || MODIFIERS.includes(key)) return false;
    const isPlain = !(shiftKey || ctrlKey || altKey || metaKey);
    const escaped = this.escaped;
    this.escaped = key === "Escape";
    if (this.isOpen) return this.keyOnList(event, isPlain);
    if (key !== "Tab" || !isPlain || escaped || !this.may || !this.view.state.doc.length) return false;
    this.ask();
    return true;
  }

  keyOnList(event, isPlain) {
    const { key } = event;
    const forward = this.view.textDirectionAt(this.at) === Direction.RTL ? "ArrowLeft" : "ArrowRight";
    if (key === forward && !event.shiftKey && !event.metaKey && (isMac ? event.altKey && !event.ctrlKey : event.ctrlKey && !event.altKey)) {
      this.word();
    } else if (!isPlain) {
      if (key === "Tab") this.close();
      return false;
    } else if (key === "Escape") {
      this.close();
      event.stopPropagation();
    } else if (key === "Tab") this.ask();
    else if (key === "Enter") this.take(this.row);
    else if (key === "ArrowDown" || key === "ArrowUp") this.choose((this.row + (key === "ArrowDown" ? 1 : -1) + this.rows.length) % this.rows.length);
    else if (/^[1-9]$/.test(key) && key <= this.rows.length) this.choose(key - 1);
    else return false;
    return true;
  }

  // --- asking

  // Ask at the caret; asked again at the same place there come others.
  ask() {
    if (!this.may) return;
    if (this.page.troubles.lost) {
      this.page.troubles.draw(true);
      return;
    }
    const { doc, selection } = this.view.state;
    const isSame = this.asked?.at === selection.main.to && this.asked.doc.eq(doc);
    this.turns = isSame ? this.turns + 1 : 0;
    this.asked = { doc, at: selection.main.to };
    this.page.clear();
    this.page.settle();
    this.at = selection.main.to;
    this.rows = Array.from({ length: COUNT }, (_, number) => ({ number, cells: [], taken: 0 }));
    this.lines = new Lines();
    this.open();
    if (matchMedia("(hover: hover)").matches) this.view.focus(); // a phone's keyboard stays away
    this.begin(this.lines, this.turns);
  }

  // What was typed goes first; what is suggested then needs nobody to wait for it.
  begin(lines, turn) {
    this.session.inTurn(async () => {
      const { session } = this;
      await session.ready();
      if (this.lines !== lines) return; // it was closed meanwhile
      const at = points(this.view.state.doc, this.at);
      const body = { rev: session.copy.basis.rev, at, turn, options: this.page.fields().options };
      this.listen(lines, `${this.base}s/${session.copy.id}/suggest`, body);
    });
  }

  async listen(lines, address, body) {
    try {
      for await (const said of lines.of(address, body)) if (this.lines === lines) this.hear(said);
    } catch (refused) {
      if (this.lines !== lines) return;
      this.close();
      if (refused.status === 409) this.session.lookAgain();
      this.page.refused(refused.status === 409 ? { message: translated("The sheet was changed elsewhere just now. Ask again."), field: null } : refused);
    }
  }

  hear({ id, status, sample, cells, over }) {
    if (id) this.id = id;
    if (status !== undefined) {
      this.note.textContent = status;
      this.place();
    }
    const row = this.rows.find(({ number }) => number === sample);
    if (row) {
      row.cells.push(...cells);
      this.draw();
    }
    if (over === undefined) return;
    if ((over || this.rows.length === 1) && !this.rows.some((one) => one.cells.length)) {
      this.close(); // nothing came, or all that came is taken
      if (over) this.page.refused({ message: over, field: null });
      return;
    }
    [this.isOver, this.isWhole] = [true, !over];
    this.note.textContent = over || (this.rows.length > 1 ? translated("Three suggestions. Arrow keys choose, Enter takes one.") : "");
    this.note.classList.toggle("unseen", !over);
    this.draw();
    this.place();
  }

  // --- taking

  // So many cells of one that is shown. `goesOn`: more of it may still come.
  take(row, count = this.rows[row].cells.length, goesOn = false) {
    const { number, cells, taken } = this.rows[row];
    if (!count && this.isOver) this.close();
    if (!count) return;
    const gone = cells.slice(0, count);
    const from = taken;
    const to = taken + tokensOf(gone);
    const rest = { number, cells: cells.slice(count), taken: to };
    const suggestion = this.id;
    let isTaken = false;
    let behind = 0; // characters, which stay behind the caret
    const body = () => {
      const at = points(this.view.state.doc, this.at);
      behind = points(this.view.state.doc) - at;
      return { suggestion, sample: number, from, to, at };
    };
    this.taking += 1;
    const caretOf = ({ caret }) => {
      isTaken = true;
      return caret - behind;
    };
    this.session.press("take", body, caretOf).finally(() => {
      this.taking -= 1;
      if (!isTaken) this.close(); // it was refused, which the bar says
    });
    if (count === cells.length && !goesOn) this.close();
    else {
      this.rows = [rest];
      this.row = 0;
      this.draw();
    }
  }

  // The next word of the chosen one; what is behind it stays.
  word() {
    const { cells } = this.rows[this.row];
    this.take(this.row, cellsOfWord(cells), !this.isOver);
  }

  // --- showing

  choose(row) {
    this.row = row;
    this.draw();
  }

  open() {
    this.row = 0;
    this.isOver = this.isWhole = false;
    this.note.textContent = "";
    this.note.classList.remove("unseen");
    this.box.hidden = false;
    this.draw();
    this.place();
  }

  draw() {
    if (this.list.children.length !== this.rows.length) {
      this.list.replaceChildren(...this.rows.map(() => document.createElement("li")));
    }
    this.rows.forEach(({ cells }, row) => {
      const item = this.list.children[row];
      const text = cells.map(([one]) => one).join("");
      const shown = text.trim().replace(/\s*\n\s*/g, " ↵ ");
      item.id = `suggestion-${row}`;
      item.role = "option";
      item.dir = "auto";
      item.textContent = shown || (this.isWhole ? translated("(it would end here)") : "…");
      item.classList.toggle("none", !shown);
      item.setAttribute("aria-selected", String(row === this.row));
    });
    if (this.view.state.field(chosen) !== this.row) this.view.dispatch({ effects: setChosen.of(this.row) });
  }

  place() {
    const read = () => (this.isOpen ? this.view.coordsAtPos(this.at, -1) : null);
    this.view.requestMeasure({ key: this, read, write: (here) => here && placeBelow(this.box, here) });
  }

  // Another text, or another place in it: what was suggested does not fit any more, unless it is what was taken of it.
  changed({ docChanged, selectionSet, changes, transactions, state }) {
    const isOurs = transactions.every((one) => one.annotation(remote) || !(one.docChanged || one.selection));
    if (docChanged && this.at !== undefined) {
      const isTaken = isOurs && this.taking && selectionSet; // the caret stands behind it; of equal letters a change may seem to begin with another
      this.at = isTaken ? state.selection.main.head : changes.mapPos(this.at, isOurs ? 1 : -1);
    }
    if (!this.isOpen || !(docChanged || selectionSet)) return;
    if (!isOurs || (docChanged && !this.taking)) queueMicrotask(() => this.close()); // no change may be made within one
    else if (docChanged) this.place();
  }

  close() {
    if (!this.isOpen) return;
    this.lines?.leave();
    this.lines = null;
    this.box.hidden = true;
    if (this.view.state.field(chosen) !== null) this.view.dispatch({ effects: setChosen.of(null) });
  }

  destroy() {
    this.lines?.leave();
    this.end.abort();
  }
}
