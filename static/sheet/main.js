// The sheet's script: where a page holds a sheet, the editor takes the textarea's place, and the bar gets its buttons.

import { drawAside, whenChanged } from "./around.js";
import { Bar } from "./bar.js";
import { cellAt, cells, mayCount, tokensIn } from "./cells.js";
import { showCode } from "./code.js";
import { endOf } from "./copy.js";
import { Demo } from "./demo.js";
import { typedEarly } from "./early.js";
import { makeEditor } from "./editor.js";
import { watchExamples } from "./examples.js";
import { fading, lastStretch, setFading } from "./fade.js";
import { Follower } from "./follow.js";
import { Hints } from "./hints.js";
import { looked, setLooked } from "./looked.js";
import { More } from "./more.js";
import { Panel } from "./panel.js";
import { Peek } from "./peek.js";
import { Problem } from "./problem.js";
import { Session } from "./session.js";
import { setLens } from "./shades.js";
import { Stream } from "./stream.js";
import { Suggest, isMac } from "./suggest.js";
import { Troubles } from "./troubles.js";
import { Versions } from "./versions.js";

const NOT_OPTIONS = ["prompt", "nonce", "lens", "parent", "parent_sample", "memory"];
const KEY = matchMedia("(hover: hover)").matches ? ` (${isMac ? "⌘" : "Ctrl"} ↵)` : "";
let nonce = null; // of the page that the browser loaded; those that htmx puts into it later are under its rules
let here = null; // the sheet on the page

class Page {
  constructor(root, state) {
    this.root = root;
    this.form = root.querySelector("form.write");
    this.base = new URL(".", this.form.action).pathname;
    this.tries = { current: 0, count: 0 };
    this.can = { undo: false, redo: false };
    const does = this.presses();
    this.box = root.querySelector("#editor");
    this.view = makeEditor(this.box, nonce, does, `${this.form.prompt.placeholder}${KEY}`);
    this.more = new More(root.querySelector(".acts"));
    this.bar = new Bar(root.querySelector(".acts"), does);
    this.troubles = new Troubles((...said) => this.say("trouble", ...said), () => this.session && this.drawn());
    this.problem = new Problem(root.querySelector("#problem"), this.form, (input) => this.more.box.contains(input) && this.more.toggle(true));
    this.hints = new Hints(this.view, (slot, sentence) => this.say(slot, sentence), () => this.form.model.selectedOptions[0]);
    this.panel = new Panel(root.querySelector("#token"), this.base, this.view, (word) => this.word(word), () => this.frame(null));
    this.peek = new Peek(root, this.base, this.view, () => !this.panel.isOpen && !this.more.isOpen && !this.suggest?.isOpen);
    this.follower = new Follower(this.view);
    showCode(root.querySelector("#as-code"), this.base, this);
    this.form.prompt.hidden = true;
    this.box.hidden = false;
    this.memory = root.querySelector("#memory");
    this.memory.value = state.memory;
    this.memory.closest("details").open = state.memory !== "";
    this.kept = whenChanged(this.memory, (memory) => this.session.settings({ memory }));
    this.session = new Session(this.view, this, this.base, state);
    this.versions = new Versions(root.querySelector("#versions"), this.base, (from) => this.older(from));
    this.suggest = new Suggest(root.querySelector(".suggestions"), this.base, this.view, this.session, this);
    this.settled(state);
    this.troubles.draw();
    this.watch(state);
    this.first();
    if (state.id) this.opened(state.id);
    this.early();
    if (matchMedia("(hover: hover)").matches || !state.id) this.view.focus();
  }

  early() {
    const changes = typedEarly(this.form.prompt, this.view.state.doc.toString());
    if (changes) this.view.dispatch({ changes, selection: { anchor: endOf(changes) }, userEvent: "input" });
    if ("pressed" in this.form.prompt.dataset) this.write();
  }

  presses() {
    const press = (what, body) => {
      this.clear();
      this.session.press(what, body);
    };
    const flip = (by) => {
      const to = this.tries.current + by;
      if (to >= 0 && to < this.tries.count) press("flip", { to });
    };
    return {
      write: () => { this.write(); },
      stop: () => { this.session.stop(); },
      retry: () => {
        if (!this.able("retry")) return;
        this.follower.begin();
        this.view.dispatch({ effects: setFading.of(lastStretch(this.view.state)) });
        press("retry", () => ({ options: this.fields().options }));
        const { seed } = this.fields().options;
        if (seed) this.say("other", translated("Luck is {seed}: the same words come again.", { seed }));
      },
      undo: () => this.able("undo") && press("undo"),
      redo: () => this.able("redo") && press("redo"),
      previous: () => flip(-1),
      next: () => flip(1),
      suggest: () => {
        this.more.close();
        this.suggest.ask();
      },
      key: (event) => this.suggest?.key(event) ?? false,
      more: () => this.more.toggle(),
      presets: () => this.more.presets(),
      look: () => { this.look(Math.min(this.view.state.selection.main.head, this.view.state.doc.length - 1), true); },
      typed: (transaction) => {
        this.problem.typed();
        this.session.typed(transaction);
      },
      margins: () => this.bar?.margins(),
      composed: () => {
        this.session.flush();
        this.session.rest();
      },
      left: () => this.session.flush(),
      clicked: (event, view) => {
        if (event.button || !view.state.selection.main.empty) return;
        const found = view.posAndSideAtCoords({ x: event.clientX, y: event.clientY });
        if (found) this.look(found.assoc < 0 ? found.pos - 1 : found.pos);
      },
      changed: (update) => {
        this.peek?.update(update);
        this.suggest?.changed(update);
        if (mayCount(update)) this.bar?.count(() => tokensIn(this.view.state));
        if (this.session && (update.docChanged || update.selectionSet || update.focusChanged)) this.hint();
      },
    };
  }

  // What is typed can always be taken back, also before the server knows of it.
  able(name) {
    if (name === "undo" && (this.session.copy.unsent.all.length || this.session.unset.memory !== undefined)) return true;
    if (name === "retry") return this.tries.count > 0;
    return this.can[name];
  }

  write() {
    if (this.isAsked()) return;
    this.begins();
    this.session.write();
  }

  // Whether something is under way; whoever presses again hears why nothing has come of it yet.
  isAsked() {
    const is = Boolean(this.session.pressing || this.session.writing);
    if (is) this.troubles.draw(true);
    return is;
  }

  // A writing begins, for which an empty page has made room.
  begins() {
    this.clear();
    this.demo?.leave();
    this.follower.begin();
  }

  // What was said of the press before.
  clear() {
    this.panel.close();
    this.suggest.close();
    this.problem.clear();
  }

  word({ run, sample, place, token }) {
    this.begins();
    this.session.press("word", () => ({ run, sample, place, token, options: this.fields().options }));
    this.view.focus();
  }

  // What an empty page shows: a run to look into, and beginnings to press.
  first() {
    const demo = document.querySelector(".demo");
    if (demo) this.demo = new Demo(demo, this.base, (word, form) => this.goOn(word, form));
    watchExamples(() => this.form.model.value, (prompt, once) => {
      if (this.isAsked()) return;
      this.session.divide();
      this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: prompt }, selection: { anchor: prompt.length }, userEvent: "input" });
      this.view.focus();
      this.begins();
      this.session.write(once);
    });
  }

  // Another word of the run that is shown: it comes into an empty sheet; beside a text it makes a run of its own.
  goOn(word, form) {
    if (!this.view.state.doc.length && !this.session.copy.own && !this.session.pressing) {
      this.session.copy.from = { run: word.run, sample: word.sample };
      this.word(word);
      return;
    }
    if (word.token !== null) form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "token", value: word.token }));
    form.submit();
  }

  async look(position, enter = false) {
    this.peek.hide();
    this.suggest.close();
    const cell = cellAt(this.view.state, position);
    this.frame(cell);
    if (!cell) return this.panel.close();
    await this.panel.show(cell);
    return enter ? this.panel.focus() : null;
  }

  // The word that the panel is about, or null.
  frame(cell) {
    if (cell || this.view.state.field(looked)) this.view.dispatch({ effects: setLooked.of(cell && { from: cell.from, to: cell.to }) });
  }

  // The settings as the form has them.
  fields() {
    const given = [...new FormData(this.form)].filter(([name]) => !NOT_OPTIONS.includes(name));
    return { options: Object.fromEntries(given), memory: this.memory.value, lens: this.lens() };
  }

  lens() {
    const chosen = this.form.querySelector("[name=lens]:checked")?.value ?? "author";
    return chosen === "author" ? "" : chosen;
  }

  watch(state) {
    const versions = this.root.querySelector("#versions");
    versions.addEventListener("toggle", () => versions.open && this.session.copy.id && this.session.lookAgain()); // the newest has grown since it was drawn
    const lens = this.form.querySelector(`[name=lens][value="${CSS.escape(state.lens)}"]`);
    if (lens) lens.checked = true;
    this.view.dispatch({ effects: setLens.of(this.lens()) });
    this.form.querySelector("[data-insert-end]").addEventListener("click", () => this.insertEnd());
    this.form.addEventListener("change", ({ target }) => {
      if (target.name === "lens") {
        this.view.dispatch({ effects: setLens.of(this.lens()) });
        this.session.settings({ lens: this.lens() });
        this.remember();
      } else if (target.name && !NOT_OPTIONS.includes(target.name)) {
        this.session.settings({ options: this.fields().options });
        this.remember();
      }
    });
  }

  // Until there is a sheet that has them, the settings are in the page's address, and so survive a reload.
  remember() {
    if (this.session.copy.id || location.pathname !== this.base) return;
    const address = new URL(location.href);
    const { options } = this.fields();
    const told = { ...options, lens: this.lens() };
    for (const name of new Set([...this.form.elements].map((field) => field.name))) {
      if (name !== "lens" && (!name || NOT_OPTIONS.includes(name))) continue;
      if (told[name]) address.searchParams.set(name, told[name]);
      else address.searchParams.delete(name);
    }
    history.replaceState(history.state, "", address);
  }

  // What was typed into a field goes now.
  settle() {
    this.kept.now();
  }

  // The chosen model's end token, where the caret is.
  insertEnd() {
    const name = this.form.model.selectedOptions[0]?.dataset.end;
    if (!name) return;
    this.view.dispatch(this.view.state.replaceSelection(name));
    this.form.parse_special.checked = true;
    this.session.settings({ options: this.fields().options });
    this.view.focus();
  }

  // --- what the session tells

  say(slot, sentence, isAgain) {
    this.bar.say(slot, sentence, isAgain);
  }

  watching(n) {
    this.bar.watching(n);
  }

  drawn() {
    const { writing, pressing } = this.session;
    const can = { ...this.can, undo: this.able("undo"), retry: this.able("retry") };
    this.bar.able(this.bar.buttons.suggest, !writing);
    const begins = ["write", "retry", "word"].includes(pressing) && !this.troubles.lost; // one that waits for a connection has nothing to stop
    this.bar.draw({ writing: writing || begins, pressing, can, tries: this.tries });
    if (!pressing && this.view.state.field(fading).size) this.view.dispatch({ effects: setFading.of(null) });
    this.root.classList.toggle("written", this.view.state.field(cells).size > 0);
    this.hint();
  }

  hint() {
    this.hints.draw(this.session.copy.mine, this.session.writing);
    this.bar.able(this.bar.buttons.undo, this.able("undo"));
  }

  // What was typed is stored; `hint` is what the model would stumble over.
  stored(can, hint) {
    this.problem.stored();
    this.noted(can, hint);
  }

  noted(can, hint) {
    this.can = can;
    this.say("script", hint);
    this.drawn();
  }

  settled(state) {
    [this.tries, this.can] = [state.tries, { undo: state.undo, redo: state.redo }];
    this.say("status", state.status);
    this.say("script", state.hint);
    if (state.memory && !this.memory.value) this.memory.closest("details").open = true;
    if (state.mine && this.session.unset.memory === undefined) this.kept.take(state.memory);
    drawAside(this.root.querySelector(".aside ol"), state.aside, (piece) => this.session.press("back", { piece }));
    this.versions.draw(state.versions, state.version_count);
    this.drawn();
  }

  async older(from) {
    try {
      return (await this.session.ask(`versions?from=${from}`)).versions;
    } catch (refused) {
      this.refused(refused);
      return [];
    }
  }

  grows() {
    this.follower.before();
  }

  // The sheet has an address of its own now.
  opened(id, another = false) {
    const address = `${this.base}s/${id}`;
    this.address = address;
    if (location.pathname !== address) history[another ? "pushState" : "replaceState"](history.state, "", address);
    this.form.dataset.sheet = id;
    this.root.classList.add("begun");
    this.root.querySelector("[data-share]").href = `${address}/share`;
    if (another) this.say("status", translated("This is a sheet of your own now; the one that it came from stays as it is."));
    this.stream?.close();
    const hear = (name, data) => name === "gone" ? this.leave() : this.session.hear(name, data);
    this.stream = new Stream(`${address}/events`, hear, (kind) => this.troubles.hears(kind));
  }

  // The sheet was deleted or taken down: the page that stands at its address now says so.
  leave() {
    this.session.gone = true;
    this.stream.close();
    location.replace(this.address);
  }

  refused(refusal) {
    this.problem.say(refusal);
  }

  close() {
    this.session.leave();
    this.session.gone = true;
    this.stream?.close();
    for (const one of [this.troubles, this.problem, this.hints]) one.destroy();
    this.more.destroy();
    this.panel.destroy();
    this.suggest.destroy();
    this.demo?.destroy();
    this.follower.destroy();
    this.view.destroy();
  }
}

function begin() {
  if (here && !here.root.isConnected) {
    here.close();
    here = null;
  }
  const data = document.getElementById("sheet-state");
  if (here || !data) return;
  const root = document.querySelector(".paper");
  nonce ??= root.dataset.nonce;
  here = new Page(root, JSON.parse(data.textContent));
}

// The form is sent by its other button alone; all else that sends it writes on here.
document.addEventListener("submit", (event) => {
  if (!here || event.target !== here.form) return;
  here.form.prompt.value = here.view.state.doc.toString();
  const isRead = event.submitter?.name === "read";
  if (isRead && here.form.prompt.value.trim()) return;
  event.preventDefault();
  event.stopPropagation();
  if (isRead) here.say("other", translated("Write something first: then it can tell how surprising it is."));
  else if (here.session.writing) here.session.stop();
  else here.write();
}, true);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && here?.session.writing && !event.isComposing) here.session.stop();
});

for (const name of ["pagehide", "blur"]) window.addEventListener(name, () => here?.session.leave());
document.addEventListener("visibilitychange", () => document.hidden && here?.session.leave());
document.addEventListener("htmx:after:swap", begin);
window.addEventListener("popstate", () => {
  if (here?.address && here.root.isConnected && location.pathname !== here.address) location.reload(); // back to the sheet that this one came from
});
begin();
