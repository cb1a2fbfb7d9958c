// Draws cells: red, whichever lens is on. Neighbours share a mark, as browsers shape a paragraph in a time that grows with the
// square of its marks; but no more than a piece of PIECE tokens, as the text nodes that stand in one mark are shaped anew with
// each key.

import { RangeSetBuilder } from "@codemirror/state";
import { Decoration, ViewPlugin } from "@codemirror/view";
import { cells } from "./cells.js";

const PIECE = 100;
const red = Decoration.mark({ class: "red" });

// What a piece may begin with: no letter is parted from one that it is joined to or kerned with.
const BEGINS = /^[\s\p{Ideographic}]/u;

function draw({ state, viewport }) {
  const builder = new RangeSetBuilder();
  let start = 0;
  let end = 0;
  let piece = null; // numbers that cells keep wherever they move, so that a key leaves all pieces but its own
  const begins = (first, number) => number !== piece && BEGINS.test(state.sliceDoc(first, first + 2));
  state.field(cells).between(viewport.from, viewport.to, (first, last, { place }) => {
    const number = Math.floor(place / PIECE);
    if (start === end || first !== end || begins(first, number)) {
      if (start < end) builder.add(start, end, red);
      [start, piece] = [first, number];
    }
    end = last;
  });
  if (start < end) builder.add(start, end, red);
  return builder.finish();
}

export const inks = ViewPlugin.fromClass(class {
  constructor(view) {
    this.decorations = draw(view);
  }

  update({ view, docChanged, viewportChanged, state, startState }) {
    if (docChanged || viewportChanged || state.field(cells) !== startState.field(cells)) this.decorations = draw(view);
  }
}, { decorations: (plugin) => plugin.decorations });
