// Why what is done here does not come to the server, or its words do not come back: one sentence at the bar, that of the gravest,
// for as long as it lasts. Who presses meanwhile hears of the press.

const SENTENCES = { // what is typed, and what is pressed
  offline: [
    translated("You are offline. What you type is kept here and saved when you are online again."),
    translated("You are offline. What you pressed is kept here and done when you are online again."),
  ],
  silent: [
    translated("The server does not answer. What you type is kept here and saved when it does."),
    translated("The server does not answer. What you pressed is kept here and done when it does."),
  ],
};
const LINES = {
  cut: translated("The connection was lost. This page comes back by itself; nothing that was written is gone."),
  crowded: translated("Too many people are watching just now. New words appear here as soon as there is room; what you type is saved."),
};
const AGAIN = translated("This page asks again by itself.");

export class Troubles {
  // `say(sentence, isAgain)` shows one, null: none; `changed()` is called where presses begin or cease to come through
  constructor(say, changed) {
    Object.assign(this, { say, changed, server: null, line: null, presses: 0 });
    this.end = new AbortController();
    for (const name of ["online", "offline"]) window.addEventListener(name, () => this.draw(), { signal: this.end.signal });
  }

  // Why presses do not come through.
  get lost() {
    return navigator.onLine ? this.server?.kind ?? null : "offline";
  }

  // What became of requests: "silent", "refusing" with what the server says, or null.
  asks(kind, sentence = null) {
    this.server = kind && { kind, sentence: sentence && translated("{first} {second}", { first: sentence, second: AGAIN }) };
    this.draw();
  }

  // What became of the stream: "cut", "crowded" or null.
  hears(kind) {
    if (kind === this.line) return;
    this.line = kind;
    this.draw();
  }

  // Somebody has pressed something; it is under way until the promise is settled.
  press(promise) {
    this.presses += 1;
    this.draw(true);
    promise.finally(() => {
      this.presses -= 1;
      this.draw();
    });
    return promise;
  }

  draw(isAgain = false) {
    const { lost } = this;
    const sentence = SENTENCES[lost]?.[Number(this.presses > 0)] ?? this.server?.sentence ?? LINES[this.line] ?? null;
    this.say(sentence, isAgain && lost !== null);
    if (lost !== this.drawn) this.changed();
    this.drawn = lost;
  }

  destroy() {
    this.end.abort();
  }
}
