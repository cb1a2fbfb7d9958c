// The stretch that is about to be written anew: it fades until the new one comes.

import { StateEffect, StateField } from "@codemirror/state";
import { Decoration, EditorView } from "@codemirror/view";
import { cells } from "./cells.js";

const mark = Decoration.mark({ class: "fading" });

export const setFading = StateEffect.define(); // {from, to}, or null

export const fading = StateField.define({
  create: () => Decoration.none,
  update(value, { changes, effects }) {
    const draw = (range) => (range ? Decoration.set(mark.range(range.from, range.to)) : Decoration.none);
    return effects.reduce((now, effect) => (effect.is(setFading) ? draw(effect.value) : now), value.map(changes));
  },
  provide: (field) => EditorView.decorations.from(field),
});

// What the run wrote that wrote last, or null.
export function lastStretch(state) {
  let found = null;
  for (const at = state.field(cells).iter(); at.value; at.next()) {
    const isSame = found && at.value.run === found.run && at.from === found.to;
    found = { run: at.value.run, from: isSame ? found.from : at.from, to: at.to };
  }
  return found;
}
