// What htmx does not do: keys, the clipboard, and a word when a stream ends for good or for worse.

const near = () => window.innerHeight + window.scrollY > document.body.scrollHeight - 120;

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // outside https and localhost browsers offer no clipboard; an old way still works
  const box = document.createElement("textarea");
  box.value = text;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (!done) throw new Error("the browser refused");
}

async function copyFrom(button) {
  const stories = () => [...document.querySelectorAll(button.dataset.copyText)].map((story) => story.textContent).join("\n\n");
  const said = document.getElementById("copied");
  try {
    await copy(button.dataset.copy ?? stories());
    said.textContent = button.dataset.local
      ? "Copied, but this address works only on this computer: start with make run HOST=0.0.0.0, or set PUBLIC_URL."
      : "Copied.";
  } catch {
    said.textContent = `Your browser does not let pages copy. ${button.dataset.copy ? `The link is ${button.dataset.copy}` : ""}`;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-text]");
  if (button) copyFrom(button);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = event.target.closest?.("form.write");
    if (form) form.requestSubmit();
  }
  if (event.key === "Escape") document.getElementById("stop")?.click();
});

// follow the text down the page while the reader is at its end
let following = false;
document.addEventListener("htmx:sse:before:message", () => { following = near(); });
document.addEventListener("htmx:sse:after:message", () => {
  if (following) window.scrollTo({ top: document.body.scrollHeight });
});

// the field that the server named is marked, whichever it is
document.addEventListener("refused", (event) => {
  for (const field of document.querySelectorAll("form.write [name]")) {
    field.toggleAttribute("aria-invalid", false);
    if (field.name !== event.detail.field) continue;
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
  }
});

// leave the words in the address of the page that is left, so that Back brings them back
document.addEventListener("htmx:before:request", (event) => {
  const form = event.target.closest?.("form.write");
  if (!form) return;
  const words = new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();
  if (words.length < 6000) history.replaceState(history.state, "", `/?${words}`);
});

// a screen reader and the Tab key go on at the new page's beginning
document.addEventListener("htmx:after:history:update", () => {
  requestAnimationFrame(() => {
    if (document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
  });
});

// htmx comes back by itself to a stream that breaks, but not to one that never began
for (const failure of ["htmx:error", "htmx:response:error"]) {
  document.addEventListener(failure, (event) => {
    if (event.target.matches?.("article.run")) document.getElementById("lost")?.removeAttribute("hidden");
  });
}

document.addEventListener("htmx:sse:close", (event) => {
  const { reason } = event.detail;
  if (reason === "message") event.target.classList.add("over");
  if (reason === "ended") document.getElementById("lost")?.removeAttribute("hidden");
});
