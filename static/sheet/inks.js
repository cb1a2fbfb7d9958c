// Draws cells: red, and in the shades of a lens. Neighbours that look alike share a mark, and only what is seen is shaded, so
// that a key costs the same in a text of any length.

import { RangeSetBuilder, StateEffect, StateField } from "@codemirror/state";
import { Decoration, ViewPlugin } from "@codemirror/view";
import { cells } from "./cells.js";

const LETTERS = { probability: "p", rank: "k", entropy: "e" };
const marks = new Map(); // by class

export const setLens = StateEffect.define(); // the name of a lens, or "" for who wrote what

export const lens = StateField.define({
  create: () => "",
  update: (value, { effects }) => effects.reduce((name, effect) => (effect.is(setLens) ? effect.value : name), value),
});

function mark(name) {
  if (!marks.has(name)) marks.set(name, Decoration.mark({ class: name }));
  return marks.get(name);
}

const MARGIN = 0.2; // of the window's height, above and below it: browsers shape a paragraph in a time that grows with the
// square of its marks, so there are no more of them than one can scroll over before they are drawn anew

// The stretch of the text between two heights of the window; up to an end of the viewport that lies between them.
function between(view, box, top, bottom) {
  return {
    from: top <= box.top ? view.viewport.from : view.posAtCoords({ x: box.left + 1, y: top }, false),
    to: bottom >= box.bottom ? view.viewport.to : view.posAtCoords({ x: box.right - 1, y: bottom }, false),
  };
}

// The marks of the viewport; shades are between `from` and `to` alone.
function draw(view, { from, to }) {
  const builder = new RangeSetBuilder();
  const letter = LETTERS[view.state.field(lens)];
  let start = 0;
  let end = 0;
  let name = "";
  const { viewport } = view;
  view.state.field(cells).between(viewport.from, viewport.to, (first, last, { lenses }) => {
    const isShaded = letter && last > from && first < to;
    const shade = isShaded ? lenses.split(" ").find((one) => one[0] === letter) : "";
    const look = shade ? `red ${shade}` : "red";
    if (first === end && look === name) {
      end = last;
      return;
    }
    if (name) builder.add(start, end, mark(first === end ? name : `${name} last`));
    [start, end, name] = [first, last, look];
  });
  if (name) builder.add(start, end, mark(`${name} last`));
  return builder.finish();
}

const setSeen = StateEffect.define(); // {from, to}: what is shaded

export const inks = ViewPlugin.fromClass(class {
  constructor(view) {
    this.view = view;
    this.range = view.viewport;
    this.box = null; // where the text was on the screen when it was looked at last
    this.decorations = draw(view, this.range);
    this.look = () => view.requestMeasure(this.measure);
    this.measure = { key: this, read: () => this.outside(), write: (range) => range && queueMicrotask(() => this.show(range)) };
    window.addEventListener("scroll", this.look, { passive: true });
    window.addEventListener("resize", this.look);
    this.look();
  }

  // What to shade instead, if something on the screen may not be shaded. Looking where a text is on the screen is slow, so it
  // is done only after the text has moved by half the margin.
  outside() {
    const height = window.innerHeight;
    const margin = MARGIN * height;
    const box = this.view.contentDOM.getBoundingClientRect();
    const { top, bottom, width } = this.box ?? { top: Infinity };
    const moved = Math.max(Math.abs(box.top - top), Math.abs(box.bottom - bottom));
    if (moved < margin / 2 && box.width === width && height === this.height) return null;
    [this.box, this.height] = [box, height];
    return between(this.view, box, -margin, height + margin);
  }

  // A step later than the measuring, in which nothing may be dispatched, and before the frame is painted.
  show(range) {
    if (this.view.dom.isConnected && range.to <= this.view.state.doc.length) this.view.dispatch({ effects: setSeen.of(range) });
  }

  update(update) {
    const { view, docChanged, changes, state, startState, transactions } = update;
    if (docChanged) this.range = { from: changes.mapPos(this.range.from, -1), to: changes.mapPos(this.range.to, 1) };
    let changed = docChanged;
    for (const { effects } of transactions) {
      for (const effect of effects) {
        if (!effect.is(setSeen)) continue;
        this.range = effect.value;
        changed = true;
      }
    }
    changed ||= update.viewportChanged || [cells, lens].some((field) => state.field(field) !== startState.field(field));
    if (changed) this.decorations = draw(view, this.range);
    if (update.viewportChanged) this.box = null;
    if (update.geometryChanged || update.viewportChanged) this.look();
  }

  destroy() {
    window.removeEventListener("scroll", this.look);
    window.removeEventListener("resize", this.look);
  }
}, { decorations: (plugin) => plugin.decorations });
