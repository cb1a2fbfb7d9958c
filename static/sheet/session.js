// The life of one sheet: sends what is typed and pressed, one after the other, and hears what the server says.

import { Copy } from "./copy.js";
import { points } from "./points.js";
import { ask, newKey } from "./requests.js";

const QUIET = 300; // milliseconds without a key, after which what was typed is sent
const LATEST = 1000; // milliseconds after the first key that is not sent, at which it is sent anyway
const AGAIN = ["write", "retry", "word"]; // presses that mean the same after the sheet was changed elsewhere
const OTHERS = () => translated("What is to be kept in mind was changed in another window too: what stands here takes its place. Undo brings that back.");

export class Session {
  // `page` shows what is not text: settled(state), stored({undo, redo}, hint), noted(the same), drawn(), grows(), say(slot, sentence),
  // watching(n), refused(refusal), opened(id, another), has `troubles`, sends what waits in a field by settle(), and tells
  // fields() and what one `can`
  constructor(view, page, base, state) {
    Object.assign(this, { view, page, base, held: [], pressing: null, catching: false, waiting: 0, gone: false });
    this.copy = new Copy(view, state);
    this.newest = this.copy.rev; // that was heard of
    this.unset = {}; // settings that the server does not know yet
    this.memory = state.memory; // as it knows it
    this.turn = Promise.resolve();
  }

  get writing() {
    return this.copy.open !== null;
  }

  ask(what, body, patient = true) {
    const address = what === "sheets" ? what : `s/${this.copy.id}/${what}`;
    return ask(this.base + address, body, { trouble: (...told) => this.page.troubles.asks(...told), patient });
  }

  // --- typing

  typed(transaction) {
    this.copy.typed(transaction);
    this.page.say("other", null);
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.flush(), QUIET);
    this.latest ??= setTimeout(() => this.flush(), LATEST);
  }

  flush() {
    clearTimeout(this.quiet);
    clearTimeout(this.latest);
    this.latest = null;
    if (this.copy.unsent.fresh.length && !this.view.composing) this.inTurn(() => this.sendTyping());
  }

  // What is typed from now on is taken back by itself.
  divide() {
    const { unsent } = this.copy;
    if (unsent.fresh.length) unsent.send(newKey());
  }

  // What was typed is stored; a sheet of one's own begins where there is none.
  async ready() {
    await this.sendTyping();
    if (this.copy.mine && !this.copy.own) await this.create();
  }

  async sendTyping() {
    const { copy } = this;
    while (copy.unsent.all.length) {
      if (!copy.own) {
        await this.create();
        continue;
      }
      const request = { ...this.batch(), ...copy.basis };
      try {
        const { rev, length, edge, hint, undo, redo } = await this.ask("edits", request);
        copy.confirm(rev);
        this.page.stored({ undo, redo }, hint);
        if (!copy.open) copy.edgeAt(edge);
        if (!copy.open && points(copy.unsent.base) !== length) this.lookAgain(); // it holds something else: then ours is wrong
      } catch (refused) {
        copy.unsent.takeBack();
        if (![403, 409].includes(refused.status)) throw refused;
        await this.catchUp(); // it is somebody else's, or was changed elsewhere
        if (refused.status === 403 && copy.own) throw refused; // neither: nothing can be written from here
      }
    }
  }

  // What is to be sent first. What went behind another request as the page was left goes once more, by its key: it may
  // have come or not.
  batch() {
    const { unsent } = this.copy;
    if (unsent.batches.length) return { key: unsent.batches[0].key, edits: unsent.again() };
    const key = newKey();
    return { key, edits: unsent.send(key) };
  }

  // Make a sheet of one's own, with what was typed.
  async create() {
    const { copy } = this;
    const request = { ...this.batch(), ...this.page.fields() };
    if (copy.from) request.from = { ...copy.basis, ...copy.from };
    let state;
    try {
      state = await this.ask("sheets", request);
    } catch (refused) {
      copy.unsent.takeBack();
      if (refused.status !== 409) throw refused;
      await this.catchUp(); // the one that it comes from was changed just now
      return this.create();
    }
    for (const [name, value] of Object.entries(this.unset)) if (request[name] === value || name === "options") delete this.unset[name];
    await this.composed();
    copy.unsent.confirm();
    const another = copy.id !== null;
    this.newest = state.rev; // of that sheet
    this.take(state);
    this.page.opened(state.id, another);
  }

  // --- presses

  // `body` is what the request says besides; a function is asked when its turn has come. `caretOf(state)` tells where the caret
  // belongs after it, if the state does not.
  press(what, body = {}, caretOf = null) {
    this.page.say("other", null);
    this.page.settle();
    return this.page.troubles.press(this.inTurn(async () => {
      this.pressing = what;
      this.page.drawn();
      try {
        await this.sendTyping();
        if (AGAIN.includes(what)) await this.sendSettings(); // what was refused is refused once more, and nothing written
        if (what in this.page.can && !this.page.can[what]) return; // those that were pressed before it have done all
        if (!this.copy.own) await this.create();
        const state = await this.pressed(what, body);
        if (caretOf) state.caret = caretOf(state);
        await this.composed();
        this.take(state, ["undo", "redo"].includes(what) ? "change" : "end");
      } finally {
        this.pressing = null;
        this.page.drawn();
      }
    }));
  }

  async pressed(what, body) {
    const request = () => ({ key: newKey(), ...this.copy.basis, ...(typeof body === "function" ? body() : body) });
    try {
      return await this.ask(what, request(), false);
    } catch (refused) {
      if (refused.status !== 409) throw refused;
    }
    await this.catchUp();
    await this.sendTyping();
    if (AGAIN.includes(what)) return this.ask(what, request(), false);
    this.page.say("other", translated("The sheet was changed in another window just now. Please press again."));
    return this.ask("state");
  }

  // `once`: the form's fields for this writing alone.
  write(once = null) {
    const at = () => points(this.view.state.doc, this.view.state.selection.main.to);
    this.press("write", () => ({ at: at(), options: this.page.fields().options, ...(once && { once }) }));
  }

  // At once, and beside what is under way.
  async stop() {
    if (!this.writing) return;
    try {
      await this.page.troubles.press(this.ask("stop", {}));
    } catch (refused) {
      this.page.refused(refused);
    }
  }

  settings(what) {
    Object.assign(this.unset, what);
    // with something to keep in mind a sheet begins; all else goes along with its first key
    if (this.copy.own || (this.copy.id === null && this.unset.memory)) this.inTurn(() => this.sendSettings());
  }

  async sendSettings() {
    const { copy } = this;
    while (copy.mine && Object.keys(this.unset).length) {
      if (!copy.own) {
        await this.create();
        continue;
      }
      const sent = { ...this.unset };
      try {
        const { rev, hint, edge, undo, redo } = await this.ask("settings", { key: newKey(), known_memory: this.memory, ...sent });
        for (const [name, value] of Object.entries(sent)) if (this.unset[name] === value) delete this.unset[name];
        this.memory = sent.memory ?? this.memory;
        if (rev === copy.rev + 1) copy.rev = rev; // else something else was changed too
        this.newest = Math.max(this.newest, rev);
        this.page.noted({ undo, redo }, hint);
        if (!copy.open) copy.edgeAt(edge);
      } catch (refused) {
        if (refused.status !== 409) throw refused;
        await this.catchUp();
      }
    }
  }

  // --- one after the other

  inTurn(work) {
    this.waiting += 1;
    this.turn = this.turn.then(work).catch((failure) => {
      if (failure.status === undefined) reportError(failure); // no refusal, but a mistake of ours: what comes next goes on
      else this.page.refused(failure);
    }).finally(() => {
      this.waiting -= 1;
      this.rest();
    });
    return this.turn;
  }

  // News that had to wait: for an answer that is under way, or for an input method.
  rest() {
    if (this.view.composing || this.pressing || this.catching || this.gone) return;
    for (const [name, data] of this.held.splice(0)) this.hear(name, data);
    if (!this.waiting && this.newest > this.copy.rev) this.inTurn(() => this.newest > this.copy.rev && this.catchUp(true));
  }

  async catchUp(isOthers = false) {
    this.catching = true;
    try {
      const state = await this.ask("state");
      await this.composed();
      const isOther = this.take(state);
      if (isOther && isOthers && this.copy.mine) this.page.say("other", translated("Changed in another window; this one follows."));
    } finally {
      this.catching = false;
    }
  }

  // Until no input method is at work, whose text must stand still.
  async composed() {
    while (this.view.composing) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  take(state, caret) {
    const isOther = this.copy.take(state, caret);
    this.newest = Math.max(this.newest, state.rev);
    if (state.mine) this.minds(state.memory);
    this.page.settled(state);
    return isOther;
  }

  // The server has so much to keep in mind.
  minds(memory) {
    this.page.settle();
    if (this.unset.memory === memory) delete this.unset.memory;
    else if (this.unset.memory !== undefined && memory !== this.memory) this.page.say("other", OTHERS());
    this.memory = memory;
  }

  // --- what the server says

  hear(name, data) {
    if (this.gone) return;
    // what a press is answered with may be older than what was said meanwhile: that comes after it
    if ((this.view.composing || this.pressing || this.catching) && ["tokens", "over", "again", "status"].includes(name)) {
      this.held.push([name, data]);
      return;
    }
    if (name === "sheet") {
      this.newest = Math.max(this.newest, data.rev);
      this.rest();
    } else if (name === "tokens") this.tokens(data);
    else if (name === "over") this.over(data);
    else if (name === "again") this.copy.learns = true; // it is written again from where it was stored; looked at in the end
    else if (name === "status") this.page.say("status", data.text);
    else if (name === "watching") this.page.watching(data.n);
  }

  // Something is missing here.
  lookAgain() {
    if (this.catching) return;
    this.catching = true; // what comes until then waits
    this.inTurn(() => this.catchUp());
  }

  tokens(data) {
    const { open, unsent } = this.copy;
    if (unsent.stops || open?.run !== data.run) return; // from the moment of typing there nothing more is taken in
    this.page.grows();
    if (!this.copy.tokens(data)) this.lookAgain();
  }

  over({ run, tokens, text, rev, edge }) {
    this.page.say("status", text);
    const { open, unsent } = this.copy;
    if (open?.run !== run || unsent.stops) return;
    if (open.tokens < tokens || this.copy.learns) {
      this.lookAgain();
    } else {
      this.copy.close();
      if (rev === this.copy.rev) this.copy.edgeAt(edge);
      this.page.drawn();
    }
  }

  // The page is left: what was typed goes now, also behind what is under way. Browsers send it though nobody waits for it.
  leave() {
    const { copy } = this;
    const isFree = !this.waiting;
    if (isFree) this.flush();
    this.page.settle();
    if (!isFree && copy.unsent.fresh.length && copy.unsent.batches.length && copy.own) {
      const behind = copy.unsent.batches.at(-1).key;
      const key = newKey();
      const body = JSON.stringify({ key, behind, ...copy.basis, edits: copy.unsent.send(key) });
      navigator.sendBeacon(`${this.base}s/${copy.id}/edits`, new Blob([body], { type: "application/json" }));
    }
  }
}
