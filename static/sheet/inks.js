// Draws cells: red, whichever lens is on. Neighbours share a mark, as browsers shape a paragraph in a time that grows with the
// square of its marks.

import { RangeSetBuilder } from "@codemirror/state";
import { Decoration, ViewPlugin } from "@codemirror/view";
import { cells } from "./cells.js";

const red = Decoration.mark({ class: "red" });

function draw({ state, viewport }) {
  const builder = new RangeSetBuilder();
  let start = 0;
  let end = 0;
  state.field(cells).between(viewport.from, viewport.to, (first, last) => {
    if (first !== end && start < end) builder.add(start, end, red);
    if (first !== end || start === end) start = first;
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
