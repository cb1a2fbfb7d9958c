// What a press would do that one may not expect, said before it: where the model goes on, and that a space at the end is in its
// way. What it makes of a script the server knows.

import { cellAt } from "./cells.js";

const REST = 1500; // milliseconds after the last key, as who types between two words needs no hint
const BEFORE = 8; // characters in front of the caret that are looked at
const SPACE = /[^\s\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}] +$/u; // where words are set apart by spaces

const OTHERS = translated("Somebody else’s sheet: what you write makes a sheet of your own of it.");
const BEHIND = translated("Write on goes on from the caret; what stands after it is set aside.");
const SPACED = translated("There is a space at the end. The model’s words bring their own; without yours it goes on better.");

export class Hints {
  // `say(slot, sentence)` shows one, null: none; `model()` is the option that is chosen
  constructor(view, say, model) {
    Object.assign(this, { view, say, model });
  }

  // `isMine` tells whose sheet it is; while the model is at work nothing is said.
  draw(isMine, isBusy) {
    const { doc, selection } = this.view.state;
    const isBehind = selection.main.to < doc.length && this.view.hasFocus;
    this.say("hint", isBusy ? null : !isMine ? OTHERS : isBehind ? BEHIND : null);
    clearTimeout(this.soon);
    const isSpaced = !isBusy && this.isSpaced();
    if (!isSpaced) this.say("space", null);
    else this.soon = setTimeout(() => this.say("space", SPACED), REST);
  }

  // Whether the text in front of the caret ends in a space that somebody typed, and the model has words with theirs.
  isSpaced() {
    const { doc, selection } = this.view.state;
    const at = selection.main.to;
    if (this.model()?.dataset.bringsSpaces === undefined || !SPACE.test(doc.sliceString(Math.max(0, at - BEFORE), at))) return false;
    return !cellAt(this.view.state, at - 1);
  }

  destroy() {
    clearTimeout(this.soon);
  }
}
