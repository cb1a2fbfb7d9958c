// Places in a text: the server counts code points, the editor UTF-16 units. And where two texts differ.

import { ChangeSet, Text } from "@codemirror/state";

const PAIR = /[\ud800-\udbff][\udc00-\udfff]/g;

const pairs = (text) => text.match(PAIR)?.length ?? 0;
const isHigh = (unit) => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit) => unit >= 0xdc00 && unit < 0xe000;

export const textOf = (string) => Text.of(string.split("\n"));

// How many code points a document has before a position.
export function points(doc, position = doc.length) {
  let count = 0;
  for (const parts = doc.iterRange(0, position); !parts.next().done;) count += parts.value.length - pairs(parts.value);
  return count;
}

// The position after so many code points.
export function unitsAt(doc, count) {
  let position = 0;
  for (const parts = doc.iter(); count > 0 && !parts.next().done;) {
    const length = parts.value.length - pairs(parts.value);
    if (length <= count) position += parts.value.length;
    else for (const point of Array.from(parts.value).slice(0, count)) position += point.length;
    count -= length;
  }
  return position;
}

const unit = (doc, position) => (position < 0 || position >= doc.length ? 0 : doc.sliceString(position, position + 1).charCodeAt(0));
const cuts = (doc, position) => isLow(unit(doc, position)) && isHigh(unit(doc, position - 1));

// One change of the editor's as edits [at, removed, text], each on the text that the one before left. An editor may change
// one half of a pair alone (two emoji often share the first half); a whole character is sent.
export function editsOf(before, changes) {
  const after = changes.apply(before);
  const edits = [];
  changes.iterChanges((fromA, toA, fromB, toB) => {
    const head = cuts(before, fromA) || cuts(after, fromB) ? 1 : 0;
    const tail = cuts(before, toA) || cuts(after, toB) ? 1 : 0;
    const removed = points(before.slice(fromA - head, toA + tail));
    edits.push([points(after, fromB - head), removed, after.sliceString(fromB - head, toB + tail)]);
  });
  return edits;
}

// The change from one document to another, as small as a single stretch can be.
export function difference(from, to) {
  const [one, other] = [from.toString(), to.toString()];
  if (one === other) return ChangeSet.empty(from.length);
  const most = Math.min(one.length, other.length);
  let head = 0;
  while (head < most && one.charCodeAt(head) === other.charCodeAt(head)) head += 1;
  if (head && isHigh(one.charCodeAt(head - 1))) head -= 1;
  let tail = 0;
  while (tail < most - head && one.charCodeAt(one.length - 1 - tail) === other.charCodeAt(other.length - 1 - tail)) tail += 1;
  if (tail && isLow(one.charCodeAt(one.length - tail))) tail -= 1;
  return ChangeSet.of({ from: head, to: one.length - tail, insert: to.slice(head, to.length - tail) }, from.length);
}
