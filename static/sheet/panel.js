// The panel of a token: the server writes it, and what is chosen in it goes on in this sheet. It stands at its word, and on a
// phone at the window's bottom.

import { addressOf, placeAt } from "./place.js";

const OFFLINE = `<p class="looked">${translated("No connection; press the word again when it is back.")}</p>`;
const SWIPE = 60; // pixels down, after which a finger has swiped it away

export class Panel {
  // `chose({run, sample, place, token}, form)` is called for an alternative, token null for "again from here"; `closed()`
  // whenever it closes.
  constructor(box, base, view, chose, closed) {
    Object.assign(this, { box, base, view, closed, asked: 0 });
    box.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation(); // the form's own way makes a page of its own
      const fields = new FormData(event.target, event.submitter);
      const token = fields.get("token");
      const sample = fields.get("sample") === "prompt" ? -1 : Number(fields.get("sample"));
      chose({ run: this.run, sample, place: Number(fields.get("place")), token: token === null ? null : Number(token) }, event.target);
      this.close();
    });
    box.addEventListener("click", ({ target }) => target.closest(".close") && this.leave());
    this.end = new AbortController();
    const { signal } = this.end;
    document.addEventListener("pointerdown", ({ target }) => box.contains(target) || this.close(), { signal });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.isOpen) return;
      event.stopPropagation(); // a second press stops what is being written
      this.leave();
    }, { signal, capture: true });
    this.swiped();
  }

  get isOpen() {
    return this.box.childElementCount > 0;
  }

  // A finger takes it along, and away.
  swiped() {
    let from = null;
    const by = ({ touches: [{ clientY }] }) => (from === null ? 0 : Math.max(0, clientY - from));
    this.box.addEventListener("touchstart", ({ touches: [{ clientY }] }) => { from = this.box.scrollTop > 0 ? null : clientY; }, { passive: true });
    this.box.addEventListener("touchmove", (event) => {
      this.dragged = by(event);
      this.box.style.translate = `0 ${this.dragged}px`;
    }, { passive: true });
    for (const name of ["touchend", "touchcancel"]) {
      this.box.addEventListener(name, () => {
        if (name === "touchend" && this.dragged > SWIPE) this.close();
        this.box.style.translate = "";
        this.dragged = 0;
      });
    }
  }

  // Show the token of a cell, which stands `from` one position `to` another.
  async show(found) {
    this.asked += 1;
    const mine = this.asked;
    let words = OFFLINE;
    try {
      words = await (await fetch(addressOf(this.base, found.value), { headers: { "HX-Request": "true", ...pageHeaders } })).text(); // a refusal is a sentence
    } catch (failure) {
      if (!(failure instanceof TypeError)) throw failure; // what fetch says where nothing came
    }
    if (mine !== this.asked) return;
    this.run = found.value.run;
    this.box.innerHTML = words;
    placeAt(this.box, this.view, found);
    this.uncover(found.to);
  }

  // Where it lies over its word, as at a phone's bottom, the text moves up.
  uncover(position) {
    const word = this.view.coordsAtPos(position, -1);
    const { top, bottom } = this.box.getBoundingClientRect();
    if (word && word.bottom > top && word.top < bottom) window.scrollBy(0, word.bottom + 12 - top);
  }

  focus() {
    (this.box.querySelector(".bars button") ?? this.box.querySelector("button"))?.focus();
  }

  close() {
    this.asked += 1;
    this.box.replaceChildren();
    this.closed();
  }

  // Closed by hand: the text has the keyboard again.
  leave() {
    this.close();
    this.view.focus();
  }

  destroy() {
    this.end.abort();
  }
}
