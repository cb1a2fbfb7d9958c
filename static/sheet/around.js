// What stands around the text: what was set aside, and what is kept in mind.

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// The pieces that were set aside, newest first, each with a button that puts it back.
export function drawAside(box, pieces, putBack) {
  box.replaceChildren(...pieces.map((piece, n) => {
    const words = piece.map(({ text, red }) => element("span", { className: red ? "red" : "black", textContent: text }));
    const button = element("button", { type: "button", textContent: translated("Put back") });
    button.addEventListener("click", () => putBack(n));
    return element("li", {}, element("p", { className: "story", dir: "auto" }, ...words), button);
  }));
  box.parentElement.hidden = !pieces.length;
}

// A field that is sent some moments after the last key in it, and when it is left. Answers `now()`, which sends at once what
// was typed, and `take(value)`, which puts another one in from elsewhere, unless something was typed that was not sent yet.
export function whenChanged(field, send) {
  let sent = field.value;
  let soon;
  const now = () => {
    clearTimeout(soon);
    if (field.value === sent) return;
    sent = field.value;
    send(sent);
  };
  field.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(now, 600);
  });
  field.addEventListener("change", now);
  const take = (value) => {
    if (field.value === value) sent = value;
    if (field.value !== sent) return;
    sent = value;
    if (field.value !== value) field.value = value;
  };
  return { now, take };
}
