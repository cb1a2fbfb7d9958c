// The bar at the window's bottom: its buttons, and one line above them that says how things stand.

const SLOTS = ["trouble", "other", "hint", "script", "space", "status"]; // the first that has something to say is heard
const ROOM = 92; // pixels above the buttons: a sentence that comes later, on a phone of three lines, covers no line that is typed in

// as in `1 token` and `1,234 tokens`
function wordsFor(count) {
  const n = count.toLocaleString(pageLanguage);
  return count === 1 ? translated("{n} token", { n }) : translated("{n} tokens", { n });
}

export class Bar {
  // `does` has what each button does, by the button's data-do
  constructor(root, does) {
    this.root = root;
    this.said = {};
    this.status = root.querySelector("#sheet-status");
    this.readers = root.querySelector("#sheet-watching");
    this.begin = root.querySelector("#write-on");
    this.written = root.querySelector("#written");
    root.querySelector(".chosen").prepend(root.querySelector(".model")); // which without a script stands among the settings
    root.classList.add("ready");
    this.buttons = Object.fromEntries([...root.querySelectorAll("[data-do]")].map((button) => [button.dataset.do, button]));
    for (const [name, button] of Object.entries(this.buttons)) button.addEventListener("click", () => does[name]());
    this.begin.addEventListener("click", (event) => {
      if (event.detail > 1) event.preventDefault(); // the second press of a double click is no other one
    });
  }

  // `isAgain`: it is read out once more, though it stands there already.
  say(slot, sentence, isAgain = false) {
    if (sentence) this.said[slot] = sentence;
    else delete this.said[slot];
    if (isAgain) this.status.textContent = "";
    cancelAnimationFrame(this.saying);
    if (isAgain) this.saying = requestAnimationFrame(() => this.tell());
    else this.tell();
  }

  tell() {
    const heard = SLOTS.map((name) => this.said[name]).find(Boolean) ?? "";
    if (this.status.textContent !== heard) this.status.textContent = heard;
    this.status.classList.toggle("lost", "trouble" in this.said);
  }

  watching(n) {
    this.readers.textContent = n > 1 ? translated("{n} watching", { n }) : "";
  }

  // What the caret has to keep clear of, in pixels from the window's edges.
  margins() {
    if (getComputedStyle(this.root).position !== "fixed") return null;
    const top = Math.min(this.status.getBoundingClientRect().top, this.root.getBoundingClientRect().top - ROOM);
    return { bottom: window.innerHeight - top + 12 };
  }

  // How many tokens the model wrote of what is shown; drawn with the next frame, once for all that is asked until then.
  count(tokens) {
    this.soon ??= requestAnimationFrame(() => {
      this.soon = null;
      const found = tokens();
      const words = found ? wordsFor(found) : "";
      if (this.written.textContent !== words) this.written.textContent = words; // a key changes it seldom, and costs a layout where it does
    });
  }

  // `can` has undo, redo, retry as yes or no, `tries` {current, count}
  draw({ writing, pressing, can, tries }) {
    this.root.classList.toggle("writing", writing);
    this.begin.setAttribute("aria-busy", String(pressing !== null));
    for (const name of ["undo", "redo", "retry"]) this.able(this.buttons[name], can[name]);
    const several = tries.count > 1;
    this.root.querySelector("#tries").classList.toggle("none", !several);
    this.root.querySelector("#try").textContent = several ? `${tries.current + 1} / ${tries.count}` : "1 / 1";
    this.able(this.buttons.previous, several && tries.current > 0);
    this.able(this.buttons.next, several && tries.current < tries.count - 1);
  }

  // Not `disabled`: whoever works with the keyboard would lose the place.
  able(button, is) {
    const off = String(!is);
    if (button.getAttribute("aria-disabled") !== off) button.setAttribute("aria-disabled", off); // asked for at each key
  }
}
