// What stands around the text: what was set aside, the versions, and what is kept in mind.

function element(tag, properties, ...children) {
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

const moment = (when) => new Date(when).toLocaleString(clockLanguage, { dateStyle: "medium", timeStyle: "short" });

// The writings of the model, newest first, each with its permanent link.
export function drawVersions(box, versions, base) {
  box.querySelector("summary").textContent = translated("Versions ({count})", { count: versions.length });
  box.querySelector("ol").replaceChildren(...versions.map(({ run, words, when }) => element("li", {},
    element("a", { href: `${base}r/${run}`, textContent: words || translated("(nothing yet)"), dir: "auto" }),
    element("time", { dateTime: when, textContent: moment(when) }))));
  box.hidden = !versions.length;
}

// A field that is sent some moments after the last key in it, and when it is left.
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
}
