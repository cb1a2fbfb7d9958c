// Keeps the newest line in sight while the model writes, for whoever reads there: nothing moves under one who looks elsewhere,
// until they come back to it.

const PLACE = 0.65; // of the window's height, where the newest line stays
const SLACK = 40; // pixels, about a line

export class Follower {
  constructor(view) {
    this.view = view;
    this.expected = null;
    this.leaves = ({ type, deltaY }) => { this.follows &&= type === "wheel" && deltaY >= 0; };
    for (const name of ["wheel", "touchmove"]) window.addEventListener(name, this.leaves, { passive: true });
    this.measure = { key: this, read: () => this.end(), write: (bottom) => this.move(bottom) };
  }

  // How far down in the window the text ends, in pixels.
  end() {
    return this.view.coordsAtPos(this.view.state.doc.length)?.bottom ?? null;
  }

  // The person has let the model write: the text's end is where they look, if it is on the screen.
  begin() {
    const bottom = this.end();
    this.follows = bottom !== null && bottom <= window.innerHeight;
    this.expected = null;
  }

  // Text is about to be added.
  before() {
    if (this.expected !== null && this.follows) this.follows = Math.abs(window.scrollY - this.expected) < SLACK;
    this.view.requestMeasure(this.measure);
  }

  move(bottom) {
    if (bottom === null) return;
    const over = bottom - PLACE * window.innerHeight;
    this.follows ||= over <= 0;
    if (!this.follows) return;
    if (over > 0) window.scrollBy(0, over);
    this.expected = window.scrollY;
  }

  destroy() {
    for (const name of ["wheel", "touchmove"]) window.removeEventListener(name, this.leaves);
  }
}
