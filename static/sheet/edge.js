// The window's edge, drawn in the margin: from which line on the model sees the text.

import { layer } from "@codemirror/view";
import { edge } from "./marks.js";

class Edge {
  constructor(top) {
    this.top = top; // pixels below the text's top
  }

  eq(other) {
    return other.top === this.top;
  }

  draw() {
    const mark = document.createElement("div");
    mark.className = "edge";
    mark.textContent = translated("the model sees from here on");
    mark.style.top = `${this.top}px`;
    return mark;
  }

  update(mark) {
    mark.style.top = `${this.top}px`;
    return true;
  }
}

export const edgeInMargin = layer({
  above: false,
  class: "edges",
  update: ({ docChanged, geometryChanged, viewportChanged, state, startState }) =>
    docChanged || geometryChanged || viewportChanged || state.field(edge) !== startState.field(edge),
  markers(view) {
    const position = view.state.field(edge);
    const at = position === null ? null : view.coordsAtPos(position, 1);
    return at ? [new Edge(Math.round(at.top - view.scrollDOM.getBoundingClientRect().top))] : [];
  },
});
