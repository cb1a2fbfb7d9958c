// Places that move with the text: where the open run's stretch begins, and the edge of what the model sees.

import { Annotation, StateEffect, StateField } from "@codemirror/state";

export const remote = Annotation.define(); // on a change that comes from the server and is no typing

// What the last effect of a kind says; without one, what was so before.
export const latest = (effects, kind, before) => effects.reduce((now, effect) => (effect.is(kind) ? effect.value : now), before);

function place(side) {
  const set = StateEffect.define(); // a position, or null
  const field = StateField.define({
    create: () => null,
    update(value, { changes, effects }) {
      const moved = value === null ? null : changes.mapPos(value, side);
      return latest(effects, set, moved);
    },
  });
  return [field, set];
}

export const [openStart, setOpenStart] = place(-1);
export const [edge, setEdge] = place(-1);

// Whether a change touches what is being written, which begins at `start`: then the run ends where it is seen to be.
export function touches(changes, start) {
  let found = false;
  changes.iterChangedRanges((from, to) => { found ||= from >= start || to > start; }, true);
  return found;
}
