// Cells: the stretches of a text that a run wrote, each of the fewest tokens that hold whole characters, with where they are
// from. They come from the server alone. A change inside a cell takes it away (its text is then black like any other); one
// at its borders leaves it.

import { RangeSet, RangeValue, StateEffect, StateField } from "@codemirror/state";
import { textOf } from "./points.js";

export class Cell extends RangeValue {
  // `place` is the number of its first token in its run's sample; `count` how many it has; `lenses` the classes of all lenses
  constructor(run, sample, place, count, lenses) {
    super();
    Object.assign(this, { run, sample, place, count, lenses });
  }

  eq(other) {
    return ["run", "sample", "place", "count", "lenses"].every((name) => this[name] === other[name]);
  }
}
Cell.prototype.startSide = 1; // what is put in at a border stays outside
Cell.prototype.endSide = -1;

export const setCells = StateEffect.define(); // a RangeSet, in the positions of the changed text
export const addCells = StateEffect.define(); // [Range], all behind those that are there

// What is left of cells after changes of the text, in its new positions.
export function through(cells, changes) {
  let left = cells;
  changes.iterChangedRanges((from, to) => {
    let touched = false;
    left.between(from, to, (start, end) => !(touched = touched || (start < to && end > from)));
    if (!touched) return;
    left = left.update({ filterFrom: from, filterTo: to, filter: (start, end) => !(start < to && end > from) });
  }, true);
  return left.map(changes);
}

export const cells = StateField.define({
  create: () => RangeSet.empty,
  update(value, transaction) {
    const all = transaction.effects.find((effect) => effect.is(setCells));
    if (all) return all.value;
    let now = transaction.docChanged ? through(value, transaction.changes) : value;
    for (const effect of transaction.effects) if (effect.is(addCells)) now = now.update({ add: effect.value });
    return now;
  },
});

// The ranges of one span's cells, which begins at `at`.
export function rangesOf({ run, sample, from, cells: written }, at) {
  const ranges = [];
  let place = from;
  for (const [text, count, lenses] of written) {
    if (text) ranges.push(new Cell(run, sample, place, count, lenses).range(at, at + text.length));
    at += text.length;
    place += count;
  }
  return ranges;
}

// A whole text: its document, the ranges of its cells, and where what is being written begins, null if nothing is.
export function contentOf({ spans, open }) {
  const parts = [];
  const ranges = [];
  let at = 0;
  let start = null;
  for (const span of spans) {
    start = open && span.run === open.run && span.sample === open.sample ? at : null;
    const text = span.text ?? span.cells.map(([one]) => one).join("");
    if (span.run) ranges.push(...rangesOf(span, at));
    parts.push(text);
    at += text.length;
  }
  return { doc: textOf(parts.join("")), ranges, start: open ? start ?? at : null };
}

// The cell at a position, as {from, to, value}, or null.
export function cellAt(state, position) {
  let found = null;
  state.field(cells).between(position, position, (from, to, value) => {
    if (from <= position && position < to) found = { from, to, value };
  });
  return found;
}

// Whether a text may have another number of tokens after an update: a key takes cells away or moves them, and all else that
// changes them comes as an effect.
export function mayCount({ state, startState, transactions }) {
  const [before, now] = [startState.field(cells), state.field(cells)];
  return now !== before && (now.size !== before.size || transactions.some(({ effects }) => effects.length > 0));
}

// How many tokens of a text a model wrote.
export function tokensIn(state) {
  let sum = 0;
  for (const at = state.field(cells).iter(); at.value; at.next()) sum += at.value.count;
  return sum;
}
