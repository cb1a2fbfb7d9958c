// What htmx does not do: keys, the clipboard, and a word when a stream ends for good or for worse.

const near = () => window.innerHeight + window.scrollY > document.body.scrollHeight - 120;

async function copy(text, place) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // outside https and localhost browsers offer no clipboard; an old way still works
  const box = document.createElement("textarea");
  box.value = text;
  place.append(box); // what stands outside an open dialog cannot be selected
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (!done) throw new Error("the browser refused");
}

async function copyFrom(button) {
  const dialog = button.closest("dialog");
  const said = button.closest(".ways")?.querySelector(".copied") ?? document.getElementById("copied");
  try {
    await copy(button.dataset.copy, dialog ?? document.body);
    said.textContent = button.dataset.local ? translated("Copied; only this computer can open it.") : translated("Copied.");
  } catch {
    const text = button.dataset.copy;
    const isShort = text.length < 500;
    said.textContent = isShort ? translated("Your browser does not let pages copy. Here it is: {text}", { text }) : translated("Your browser does not let pages copy. ");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copyFrom(button);
});

// the chosen model's end token, where the cursor stands in the prompt
document.addEventListener("click", (event) => {
  const form = event.target.closest?.("[data-insert-end]")?.form;
  const name = form?.model.selectedOptions[0]?.dataset.end;
  if (!name || form.prompt.hidden) return; // hidden: a sheet's editor has the text
  form.prompt.setRangeText(name, form.prompt.selectionStart, form.prompt.selectionEnd, "end");
  form.parse_special.checked = true;
  form.prompt.focus();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = event.target.closest?.("form.write");
    if (form && !event.repeat) form.requestSubmit();
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
    field.scrollIntoView({ block: "nearest" });
  }
});

// A form's nonce stands for one press, which the server does once however often it comes. The next press has another:
// where a page comes back from the browser's memory, and where a form stays after it was done. One that failed stays itself.
function renew(root) {
  const byte = (value) => value.toString(16).padStart(2, "0");
  for (const nonce of root.querySelectorAll("input[name=nonce]")) {
    nonce.value = Array.from(crypto.getRandomValues(new Uint8Array(16)), byte).join("");
  }
}

window.addEventListener("pageshow", (event) => {
  if (event.persisted) renew(document);
});
document.addEventListener("htmx:after:request", ({ target, detail: { ctx } }) => {
  if (target.matches?.("form") && ctx.response.status < 400) renew(target);
});

// a form whose press did not come to the server
document.addEventListener("htmx:error", ({ target }) => {
  const box = document.getElementById("problem");
  if (!box || !target.matches?.("form")) return;
  const why = navigator.onLine ? translated("The server does not answer. Press again in a moment.") : translated("You are offline. Press again when you are online.");
  const words = Object.assign(document.createElement("p"), { className: "said unheard", textContent: why });
  words.setAttribute("role", "alert");
  box.replaceChildren(words);
});
window.addEventListener("online", () => document.querySelector(".unheard")?.remove());

// leave the words in the address of the page that is left, so that Back brings them back; a sheet has an address of its own
document.addEventListener("htmx:before:request", ({ target: form }) => {
  if (!form.matches?.("form.write") || form.dataset.sheet) return;
  const words = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value && name !== "nonce")).toString();
  if (words.length < 6000) history.replaceState(history.state, "", `${new URL(".", form.action).pathname}?${words}`);
});

// a screen reader and the Tab key go on at the new page's beginning
document.addEventListener("htmx:after:history:update", () => {
  requestAnimationFrame(() => {
    if (document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
  });
});

// moments as the visitor's own clock has them; UTC stays in the title
function localise() {
  for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    const day = moment.toLocaleDateString(clockLanguage, { day: "numeric", month: "long", year: "numeric" });
    const hour = moment.toLocaleTimeString(clockLanguage, { hour: "2-digit", minute: "2-digit" });
    time.title = time.textContent;
    time.textContent = translated("{day}, {hour}", { day, hour });
  }
}

localise();
document.addEventListener("htmx:after:swap", localise);

// The stream: htmx comes back to one that breaks, with what it has; here the reader is told, and the trying ends some day.

const PATIENCE = 20; // tries to begin, and times that the server has no place for one more reader
const SILENCE = 6000; // milliseconds without a beat (the server sends one a second) after which a line counts as dead
const streams = new Map(); // by the article that is written into

function streamOf(article) {
  if (!streams.has(article)) streams.set(article, { tries: 0, refused: 0, connection: null, heard: 0, why: null });
  return streams.get(article);
}

function tell(sentence, last = false) {
  const line = document.getElementById("lost");
  if (!line) return;
  line.hidden = !sentence;
  line.querySelector("span").textContent = sentence ?? "";
  line.querySelector("a").hidden = !last;
}

const giveUp = () => tell(translated("The connection was lost, and this page has stopped trying. Nothing that was written is gone."), true);

document.addEventListener("htmx:sse:before:connection", ({ target, detail: { connection } }) => {
  const stream = streamOf(target);
  stream.connection = connection;
  if (connection.attempt === 0) return;
  connection.cancelled = stream.refused > PATIENCE;
  tell(stream.why ?? translated("The connection was lost; this page is trying to come back…"));
});

document.addEventListener("htmx:sse:after:connection", ({ target }) => {
  Object.assign(streamOf(target), { tries: 0, heard: Date.now(), why: null });
  tell(null);
});

document.addEventListener("htmx:sse:before:message", ({ target, detail: { message } }) => {
  const stream = streamOf(target);
  stream.heard = Date.now();
  if (message.event !== "busy") stream.refused = 0;
});

document.addEventListener("busy", ({ target }) => {
  streamOf(target).refused += 1;
  streamOf(target).why = translated("Too many people are watching at once; this page asks again every few seconds…");
});

document.addEventListener("pause", ({ target }) => {
  streamOf(target).why = translated("The server is being restarted; the text goes on in a moment…");
});

// a line may die without a word, as when a phone sleeps: then the old one is closed, and htmx opens another
setInterval(() => {
  for (const { connection, heard } of streams.values()) {
    if (connection?.reader && !document.hidden && Date.now() - heard > SILENCE) connection.reader.cancel();
  }
}, 1000);

window.addEventListener("online", () => {
  for (const { connection } of streams.values()) connection?.delayCanceller?.();
});

// htmx does not come back to a stream that never began
for (const failure of ["htmx:error", "htmx:response:error"]) {
  document.addEventListener(failure, ({ target }) => {
    if (!target.matches?.("article.run")) return;
    const stream = streamOf(target);
    stream.tries += 1;
    if (stream.tries > PATIENCE) return giveUp();
    tell(translated("The connection was lost; this page is trying to come back…"));
    setTimeout(() => htmx.trigger(target, "again"), Math.min(8000, 500 * 2 ** stream.tries));
  });
}

document.addEventListener("htmx:sse:close", ({ target, detail: { reason } }) => {
  streams.delete(target);
  if (reason === "message") target.classList.add("over");
  if (reason === "ended") giveUp();
});
