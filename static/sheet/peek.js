// At the word under the pointer, or under a caret that was moved there and rests: what else could have stood in its place.

import { cellAt } from "./cells.js";
import { addressOf, placeAt } from "./place.js";

const REST = { pointer: 180, caret: 500 }; // milliseconds at a word before it is asked for
const MOST = 200; // words that are remembered

export class Peek {
  // `may()` tells whether there is room for it now
  constructor(root, base, view, may) {
    Object.assign(this, { base, view, may, known: new Map() });
    this.box = Object.assign(document.createElement("div"), { className: "peek", hidden: true });
    this.box.setAttribute("role", "status");
    root.append(this.box);
    view.contentDOM.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerleave", "pointerdown", "blur"]) view.contentDOM.addEventListener(name, () => this.hide());
  }

  moved({ pointerType, buttons, target, clientX: x, clientY: y }) {
    if (pointerType !== "mouse" || buttons) return;
    const found = target.closest(".red") && this.view.posAndSideAtCoords({ x, y });
    const cell = found && cellAt(this.view.state, found.assoc < 0 ? found.pos - 1 : found.pos);
    if (cell) this.soon(cell, REST.pointer);
    else this.hide();
  }

  // Another selection, or another text.
  update({ docChanged, selectionSet, transactions, state }) {
    if (docChanged) return this.hide();
    if (!selectionSet || !transactions.some((one) => one.isUserEvent("select") && !one.isUserEvent("select.pointer"))) return null;
    const { main } = state.selection;
    const cell = main.empty && cellAt(state, main.head);
    return cell ? this.soon(cell, REST.caret) : this.hide();
  }

  soon(cell, milliseconds) {
    if (cell.value === this.cell?.value) return;
    this.hide();
    this.cell = cell;
    this.timer = setTimeout(() => this.show(cell), milliseconds);
  }

  async show(cell) {
    const words = await this.ask(addressOf(this.base, cell.value));
    if (this.cell !== cell || !words || !this.may()) return;
    this.box.innerHTML = words;
    this.box.hidden = false;
    placeAt(this.box, this.view, cell);
  }

  // What the server says of a word, which does not change; nothing where nothing comes, as it is a hint alone.
  async ask(address) {
    if (this.known.has(address)) return this.known.get(address);
    const answer = await fetch(`${address}&few`, { headers: { "HX-Request": "true", ...pageHeaders } }).catch(() => null);
    if (!answer?.ok) return "";
    const words = (await answer.text()).trim();
    if (this.known.size >= MOST) this.known.clear();
    this.known.set(address, words);
    return words;
  }

  hide() {
    clearTimeout(this.timer);
    this.cell = null;
    if (!this.box.hidden) this.box.hidden = true; // which is asked for at each key
  }
}
