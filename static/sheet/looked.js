// The word that the panel tells of: a frame behind the text, which moves nothing of it.

import { EditorSelection, StateEffect, StateField } from "@codemirror/state";
import { RectangleMarker, layer } from "@codemirror/view";
import { latest } from "./marks.js";

export const setLooked = StateEffect.define(); // {from, to}, or null

export const looked = StateField.define({
  create: () => null,
  update(value, { changes, docChanged, effects }) {
    const moved = value && docChanged ? { from: changes.mapPos(value.from, 1), to: changes.mapPos(value.to, -1) } : value;
    return latest(effects, setLooked, moved);
  },
});

export const frameBehind = layer({
  above: false,
  class: "looked-at",
  update: ({ docChanged, geometryChanged, viewportChanged, state, startState }) =>
    docChanged || geometryChanged || viewportChanged || state.field(looked) !== startState.field(looked),
  markers(view) {
    const range = view.state.field(looked);
    return range && range.from < range.to ? RectangleMarker.forRange(view, "frame", EditorSelection.range(range.from, range.to)) : [];
  },
});
