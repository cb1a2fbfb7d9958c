// The Share button: what there is to share comes into a dialog, which closes by ×, Esc and a press outside. Without a script
// the button is a link to the same on a page of its own.

const OFFLINE = `<p class="ways">${translated("No connection; press Share again when it is back.")}</p>`;
let dialog = null;
let asked = 0;

function make() {
  const made = Object.assign(document.createElement("dialog"), { className: "share" });
  const close = Object.assign(document.createElement("button"), { type: "button", className: "close", textContent: "×", title: translated("Close (Esc)"), ariaLabel: translated("Close") });
  const inner = document.createElement("div");
  inner.append(Object.assign(document.createElement("h2"), { id: "share-title", textContent: translated("Share") }), close, document.createElement("div"));
  made.setAttribute("aria-labelledby", "share-title");
  made.append(inner);
  made.addEventListener("pointerdown", ({ target }) => target === made && made.close());
  close.addEventListener("click", () => made.close());
  document.body.append(made);
  return made;
}

async function open(address) {
  dialog ??= make();
  const box = dialog.firstElementChild.lastElementChild;
  box.replaceChildren();
  dialog.showModal();
  asked += 1;
  const mine = asked;
  let words = OFFLINE;
  try {
    words = await (await fetch(address, { headers: { "HX-Request": "true", ...pageHeaders } })).text(); // a refusal is a sentence
  } catch (failure) {
    if (!(failure instanceof TypeError)) throw failure; // what fetch says where nothing came
  }
  if (mine !== asked || !dialog.open) return;
  box.innerHTML = words;
  for (const button of box.querySelectorAll("[data-send]")) button.hidden = !navigator.share;
  box.querySelector("[data-copy]")?.focus({ preventScroll: true });
}

// The phone's own dialog.
async function send(url) {
  try {
    await navigator.share({ title: document.title, url });
  } catch (failure) {
    if (failure.name !== "AbortError") throw failure; // closed without a choice
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-share]");
  if (link?.href && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    open(link.href);
  }
  const button = event.target.closest?.("[data-send]");
  if (button) send(button.dataset.send);
  if (event.target.matches?.(".address input")) event.target.select();
});

// Esc closes the dialog, which the browser does, and nothing else: what is being written goes on.
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && dialog?.open) event.stopImmediatePropagation();
}, true);
window.addEventListener("popstate", () => dialog?.close());
