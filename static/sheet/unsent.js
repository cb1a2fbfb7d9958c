// What was typed and is not yet known to be stored: changes on top of the text that the server has. `base` is that text;
// `batches` are on their way or next, each {key, steps} by the key of its request; `fresh` came after them. What others changed
// meanwhile is put below all.

import { touches } from "./marks.js";
import { editsOf } from "./points.js";

// Changes laid over others of the same text; returns the changes, and the others as they are after them.
function laidOver(steps, news) {
  const moved = [];
  for (const step of steps) {
    moved.push({ ...step, changes: step.changes.map(news) });
    news = news.map(step.changes, true);
  }
  return [moved, news];
}

const after = (doc, steps) => steps.reduce((text, { changes }) => changes.apply(text), doc);

function editsOfAll(doc, steps) {
  const edits = [];
  for (const { changes } of steps) {
    edits.push(...editsOf(doc, changes));
    doc = changes.apply(doc);
  }
  return edits;
}

export class Unsent {
  constructor(base) {
    Object.assign(this, { base, batches: [], fresh: [] });
  }

  // A change by the person. `stops`: it touches what is being written, which ends there.
  add(changes, stops) {
    this.fresh.push({ changes, stops });
  }

  // A run is being written from `start` of the base on (null: none is): which changes end it.
  judge(start) {
    for (const step of this.all) {
      step.stops = start !== null && touches(step.changes, start);
      start = start === null ? null : step.changes.mapPos(start, -1);
    }
  }

  get all() {
    return [...this.batches.flatMap(({ steps }) => steps), ...this.fresh];
  }

  get stops() {
    return this.all.some((step) => step.stops);
  }

  // Take what is fresh on its way with a request of this key; returns its edits, on the text that there is once the batches
  // before it are stored.
  send(key) {
    const doc = this.batches.reduce((before, { steps }) => after(before, steps), this.base);
    this.batches.push({ key, steps: this.fresh });
    this.fresh = [];
    return editsOfAll(doc, this.batches.at(-1).steps);
  }

  // The edits of the first batch once more, which may have gone before as it followed another.
  again() {
    return editsOfAll(this.base, this.batches[0].steps);
  }

  // The first batch is stored.
  confirm() {
    this.base = after(this.base, this.batches.shift().steps);
  }

  // What was sent was not taken: it is to be sent again, on another text.
  takeBack() {
    this.fresh = this.all;
    this.batches = [];
  }

  // The server's text has changed; returns what that means for the text in the editor.
  over(news) {
    this.base = news.apply(this.base);
    for (const batch of this.batches) [batch.steps, news] = laidOver(batch.steps, news);
    [this.fresh, news] = laidOver(this.fresh, news);
    return news;
  }
}
