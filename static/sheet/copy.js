// The sheet as this page has it: what the server told last, with what was typed since on top. No requests are made here.

import { ChangeSet, RangeSet } from "@codemirror/state";
import { addCells, contentOf, rangesOf, setCells, through } from "./cells.js";
import { edge, openStart, remote, setEdge, setOpenStart, touches } from "./marks.js";
import { difference, textOf, unitsAt } from "./points.js";
import { Unsent } from "./unsent.js";

// Where the last stretch ends that a change has put in or taken out; null when it is none.
export function endOf(changes) {
  let end = null;
  changes.iterChangedRanges((fromA, toA, fromB, toB) => { end = toB; });
  return end;
}

export class Copy {
  // `open` is {run, sample, tokens} while a run is written: `tokens` of them are in the text.
  constructor(view, state) {
    Object.assign(this, { view, open: null, from: state.from, unsent: new Unsent(view.state.doc) });
    this.take(state, "end");
    if (state.typed !== null) this.begin(textOf(state.typed));
  }

  // Text that came by the address is typed text, and sent with the first key.
  begin(text) {
    const changes = difference(this.unsent.base, text);
    if (changes.empty) return;
    this.view.dispatch({ changes, selection: { anchor: text.length }, annotations: remote.of(true) });
    this.unsent.add(changes, false);
  }

  // Whether it is stored, and the visitor's own.
  get own() {
    return this.mine && this.id !== null;
  }

  // What a request is based on; `seen` is null where nothing is being written, as far as this page knows.
  get basis() {
    return { rev: this.rev, seen: this.open?.tokens ?? null };
  }

  // A change by the person.
  typed({ changes, startState }) {
    const start = startState.field(openStart);
    this.unsent.add(changes, this.open !== null && start !== null && touches(changes, start));
  }

  // What was sent is stored, as `rev`.
  confirm(rev) {
    const stops = this.unsent.batches[0].steps.some((step) => step.stops);
    this.unsent.confirm();
    this.rev = rev;
    if (stops) this.close();
  }

  // What the server says it is. `caret`: "end" puts it where the state says, "change" behind what has changed; else it stays
  // in its place. Answers whether the text is another one.
  take(state, caret = null) {
    const { doc, ranges, start } = contentOf(state);
    const news = difference(this.unsent.base, doc);
    const changes = this.unsent.over(news);
    this.unsent.judge(start);
    const own = this.unsent.all.map((step) => step.changes);
    const anchor = own.length ? null : { end: this.here(state.caret), change: endOf(news) }[caret] ?? null;
    this.view.dispatch({
      changes,
      selection: anchor === null ? undefined : { anchor },
      effects: [
        setCells.of(own.reduce(through, RangeSet.of(ranges))),
        setOpenStart.of(this.moved(start)),
        setEdge.of(this.here(state.edge)),
      ],
      annotations: remote.of(true),
      scrollIntoView: anchor !== null && this.view.hasFocus,
    });
    Object.assign(this, { id: state.id, rev: state.rev, mine: state.mine, open: state.open && { ...state.open } });
    // a word that was chosen for the open run: what the model thinks of it is known once it was read
    this.learns = state.spans.some(({ run, sample }) => run && run === state.open?.run && sample < 0);
    if (state.id) this.from = state.mine ? null : { sheet: state.id };
    return !news.empty;
  }

  // Tokens of a run, from number `from` up to `to`. Answers whether they could be put behind those that are here.
  tokens({ run, sample, from, to, cells }) {
    if (this.open?.run !== run || from > this.open.tokens) return false;
    let place = from;
    const fresh = cells.filter((cell) => {
      place += cell[1];
      return place > this.open.tokens;
    });
    if (!fresh.length) return true;
    const insert = textOf(fresh.map(([text]) => text).join(""));
    const first = to - fresh.reduce((sum, cell) => sum + cell[1], 0);
    const { doc, selection } = this.view.state;
    const end = this.unsent.base.length;
    const isAtEnd = selection.main.empty && selection.main.head === doc.length;
    this.view.dispatch({
      changes: this.unsent.over(ChangeSet.of({ from: end, insert }, end)),
      effects: addCells.of(rangesOf({ run, sample, from: first, cells: fresh }, doc.length)),
      selection: isAtEnd ? { anchor: doc.length + insert.length } : undefined,
      annotations: remote.of(true),
    });
    this.open.tokens = to;
    return true;
  }

  // The model's window begins so many characters into what the server has (null: it sees all).
  edgeAt(count) {
    const at = this.here(count);
    if (at !== this.view.state.field(edge)) this.view.dispatch({ effects: setEdge.of(at), annotations: remote.of(true) });
  }

  // The position so many characters into what the server has, behind what was typed since.
  here(count) {
    return count === null ? null : this.moved(unitsAt(this.unsent.base, count));
  }

  // A position in what the server has, behind what was typed since.
  moved(position) {
    return position === null ? null : this.unsent.all.reduce((at, { changes }) => changes.mapPos(at, -1), position);
  }

  // What was being written has ended.
  close() {
    this.open = null;
    this.view.dispatch({ effects: setOpenStart.of(null), annotations: remote.of(true) });
  }
}
