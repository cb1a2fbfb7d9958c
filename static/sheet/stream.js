// Hears what happens to a sheet: one EventSource, which is opened anew when it has fallen silent.

const NAMES = ["sheet", "tokens", "again", "over", "status", "watching", "beat", "busy", "gone"];
const SILENCE = 6000; // milliseconds; the server says something every second
const CUT = 2500; // milliseconds after a line was cut; where the server lives, it is back after one
const LATER = 5000; // milliseconds after which a server is asked again that has no place for one more reader

export class Stream {
  // `hear(name, data)` is called for each event; `trouble` with "cut" or "crowded" while there is no line, and null when there is.
  constructor(address, hear, trouble) {
    Object.assign(this, { address, hear, trouble, cut: null }); // cut: since when
    this.open();
    this.watch = setInterval(() => this.check(), 1000);
    this.online = () => this.open();
    window.addEventListener("online", this.online);
  }

  open() {
    this.source?.close();
    clearTimeout(this.later);
    this.heard = Date.now();
    const source = new EventSource(`${this.address}?lang=${pageLanguage}`);
    this.source = source;
    for (const name of NAMES) source.addEventListener(name, ({ data }) => this.source === source && this.take(name, data));
    source.addEventListener("error", () => {
      if (this.source !== source) return;
      this.cut ??= Date.now();
      if (source.readyState === EventSource.CLOSED) this.again(SILENCE); // refused for good
    });
  }

  take(name, data) {
    this.heard = Date.now();
    this.cut = null;
    if (name === "busy") {
      this.trouble("crowded");
      return this.again(LATER);
    }
    this.trouble(null);
    return this.hear(name, data ? JSON.parse(data) : {});
  }

  again(milliseconds) {
    this.source.close();
    clearTimeout(this.later);
    this.heard = Infinity;
    this.later = setTimeout(() => this.open(), milliseconds);
  }

  // A line may die without a word, as when a phone sleeps.
  check() {
    if (document.hidden) return;
    const isSilent = Date.now() - this.heard >= SILENCE;
    if (isSilent || (this.cut && Date.now() - this.cut >= CUT)) this.trouble("cut");
    if (isSilent) this.open();
  }

  close() {
    this.source.close();
    clearInterval(this.watch);
    clearTimeout(this.later);
    window.removeEventListener("online", this.online);
  }
}
