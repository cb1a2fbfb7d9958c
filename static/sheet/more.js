// What stands behind the bar's "…": it opens above the bar, and closes by the button, Esc and a press outside.

export class More {
  constructor(root) {
    this.root = root;
    this.box = root.querySelector("#more");
    this.button = root.querySelector("[data-do=more]");
    this.box.querySelector(".settings").open = true; // the panel is their fold
    this.end = new AbortController();
    const { signal } = this.end;
    document.addEventListener("pointerdown", ({ target }) => root.contains(target) || this.close(), { signal });
    document.addEventListener("keydown", (event) => this.key(event), { signal, capture: true });
  }

  get isOpen() {
    return this.root.classList.contains("opened");
  }

  toggle(is = !this.isOpen) {
    this.root.classList.toggle("opened", is);
    this.button.setAttribute("aria-expanded", String(is));
  }

  close() {
    if (this.isOpen) this.toggle(false);
  }

  key(event) {
    if (event.key !== "Escape" || event.defaultPrevented || !this.isOpen) return;
    event.stopPropagation(); // a second press stops what is being written
    this.close();
    this.button.focus();
  }

  // Open it where the presets are.
  presets() {
    this.toggle(true);
    this.box.querySelector("[name=preset]:checked").focus();
  }

  destroy() {
    this.end.abort();
  }
}
