// Shades cells as a lens sees them, by the browser's highlights (CSS Custom Highlight API): they are painted over the text as
// it stands, so that no line moves and no paragraph is shaped anew for them. Only what is near the window is shaded.

import { StateEffect, StateField } from "@codemirror/state";
import { EditorView, ViewPlugin } from "@codemirror/view";
import { cells } from "./cells.js";
import { latest } from "./marks.js";

const LETTERS = { probability: "p", rank: "k", entropy: "e" };
const MARGIN = 0.1; // of the window's height, above and below it

export const setLens = StateEffect.define(); // the name of a lens; any other: who wrote what

export const lens = StateField.define({
  create: () => "",
  update: (value, { effects }) => latest(effects, setLens, value),
  provide: (field) => EditorView.editorAttributes.from(field, (name) => ({ class: name in LETTERS ? "shaded" : "" })),
});

// The stretch of the text between two heights of the window; up to an end of the viewport that lies between them.
function between(view, box, top, bottom) {
  return {
    from: top <= box.top ? view.viewport.from : view.posAtCoords({ x: box.left + 1, y: top }, false),
    to: bottom >= box.bottom ? view.viewport.to : view.posAtCoords({ x: box.right - 1, y: bottom }, false),
  };
}

// Tells where positions of the text, each at or behind the last one, are in the document: [node, offset]. Asking the view is
// slow, and many positions lie in one node.
function walker(view) {
  let node = null;
  let start = 0;
  return (position) => {
    if (node && position - start <= node.length) return [node, position - start];
    const found = view.domAtPos(position, 1);
    node = found.node.nodeType === Node.TEXT_NODE ? found.node : null;
    start = position - found.offset;
    return [found.node, found.offset];
  };
}

// Ranges by the name of their shade, neighbours that look alike in one.
function shadesOf(view, letter, { from, to }) {
  const shades = new Map();
  const at = walker(view);
  const unshaded = `${letter}0`; // has no look of its own
  let open = null; // {name, end, range}
  view.state.field(cells).between(from, to, (first, last, { lenses }) => {
    const place = lenses.indexOf(letter);
    if (place < 0) return;
    const name = lenses.slice(place, place + 2);
    if (name === unshaded) return;
    const [startContainer, startOffset] = at(first);
    const [endContainer, endOffset] = at(last);
    const goesOn = open && open.name === name && open.end === first;
    const range = goesOn ? open.range : { startContainer, startOffset };
    Object.assign(range, { endContainer, endOffset });
    if (!shades.has(name)) shades.set(name, []);
    if (!goesOn) shades.get(name).push(range);
    open = { name, end: last, range };
  });
  return shades;
}

const ENDS = ["startContainer", "startOffset", "endContainer", "endOffset"];
const areSame = (ranges, others) => ranges.length === others?.length && ranges.every((range, n) => ENDS.every((end) => range[end] === others[n][end]));

export const shades = ViewPlugin.fromClass(class {
  constructor(view) {
    this.view = view;
    this.range = view.viewport;
    this.drawn = new Map(); // by name
    this.box = null; // where the text was on the screen when it was looked at last
    this.look = () => view.requestMeasure(this.measure);
    this.measure = { key: this, read: () => this.near(), write: (range) => this.show(range) };
    window.addEventListener("scroll", this.look, { passive: true });
    window.addEventListener("resize", this.look);
    this.look();
  }

  // What is near the window, or null where that is shaded as it is, or nothing is to be. Looking where a text is on the screen is slow, so it is
  // done only after the text has moved by half the margin.
  near() {
    if (!(this.view.state.field(lens) in LETTERS)) {
      this.box = null;
      return null;
    }
    const height = window.innerHeight;
    const margin = MARGIN * height;
    const box = this.view.contentDOM.getBoundingClientRect();
    const { top, bottom, width } = this.box ?? { top: Infinity };
    const moved = Math.max(Math.abs(box.top - top), Math.abs(box.bottom - bottom));
    if (moved < margin / 2 && box.width === width && height === this.height) return null;
    [this.box, this.height] = [box, height];
    return between(this.view, box, -margin, height + margin);
  }

  show(range) {
    if (range) this.range = range;
    if (range || this.isOld) this.draw();
  }

  update({ docChanged, changes, state, startState, viewportChanged, viewportMoved, geometryChanged }) {
    if (docChanged) this.range = { from: changes.mapPos(this.range.from, -1), to: changes.mapPos(this.range.to, 1) };
    if (viewportMoved) this.box = null; // mapped by a change, it is where it was
    this.isOld ||= docChanged || [cells, lens].some((field) => state.field(field) !== startState.field(field));
    if (this.isOld || geometryChanged || viewportChanged) this.look();
  }

  // The text's nodes may be others now.
  docViewUpdate() {
    this.isOld = true;
    this.look();
  }

  // A highlight that is set is laid out and painted anew, so those that stand where they stood are left.
  draw() {
    this.isOld = false;
    const letter = LETTERS[this.view.state.field(lens)];
    const shades = letter && CSS.highlights ? shadesOf(this.view, letter, this.range) : new Map();
    for (const name of this.drawn.keys()) if (!shades.has(name)) CSS.highlights.delete(name);
    for (const [name, ranges] of shades) {
      if (areSame(ranges, this.drawn.get(name))) continue;
      CSS.highlights.set(name, new Highlight(...ranges.map((range) => new StaticRange(range))));
    }
    this.drawn = shades;
  }

  clear() {
    for (const name of this.drawn.keys()) CSS.highlights.delete(name);
    this.drawn = new Map();
  }

  destroy() {
    this.clear();
    window.removeEventListener("scroll", this.look);
    window.removeEventListener("resize", this.look);
  }
});
