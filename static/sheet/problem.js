// What was refused, at the bar, until it is mended: another value is there, the text is short enough to be saved, the line has
// room, there is a connection again; or until something else is done.

const NEXT = { text: translated("It is kept on this page, and saved once it is shorter.") }; // what becomes of what was refused, by its field
const FULL = 503;
const UNHEARD = 0; // the status of what never came to the server

export class Problem {
  // `box` is its place, `form` has the fields, `open(input)` brings one of them into sight
  constructor(box, form, open) {
    Object.assign(this, { box, form, open, end: new AbortController() });
    const { signal } = this.end;
    for (const name of ["input", "settings"]) document.addEventListener(name, () => this.mended(), { signal });
    document.addEventListener("htmx:after:swap", () => this.looked(), { signal });
    window.addEventListener("online", () => this.status === UNHEARD && this.clear(), { signal });
  }

  // `message` names a field as programs do; in front of it stands the name that it has on the page.
  say({ message, field = null, status = null }) {
    const input = field && this.form.elements.namedItem(field);
    const title = input?.dataset?.title;
    Object.assign(this, { field, status, input, value: input?.value });
    const words = Object.assign(document.createElement("p"), { className: "said" });
    const first = title ? translated("{title}: {message}", { title, message }) : message;
    words.textContent = NEXT[field] ? translated("{first} {second}", { first, second: NEXT[field] }) : first;
    words.setAttribute("role", "alert");
    this.box.replaceChildren(words);
    if (input) this.open(input);
    this.mark(field);
  }

  // Which field is at fault, for all who draw it.
  mark(field) {
    document.dispatchEvent(new CustomEvent("refused", { detail: { field } }));
  }

  mended() {
    if (this.input && this.input.value !== this.value) this.clear();
  }

  typed() {
    if (!this.input && this.field !== "text" && this.status !== FULL) this.clear();
  }

  // What was typed is saved.
  stored() {
    if (this.field === "text") this.clear();
  }

  // The page asks now and then whether there is room in the line.
  looked() {
    if (this.status === FULL && document.querySelector("#busy[data-takes]")) this.clear();
  }

  clear() {
    if (!this.box.childElementCount) return;
    Object.assign(this, { field: null, status: null, input: null });
    this.box.replaceChildren();
    this.mark(null);
  }

  destroy() {
    this.end.abort();
  }
}
