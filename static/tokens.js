// Tokens that can be pointed at: a click, a tap or the arrow keys bring up the panel; the server writes it.

const panel = () => document.getElementById("token");
const tokens = () => [...document.querySelectorAll(".run .story [data-n]")].filter((token) => token.checkVisibility()); // none that is folded away
let current = null; // the token that is looked at
let part = 0; // which of its tokens, where a character has several

function sampleOf(token) {
  const owner = token.closest('[id^="sample-"]');
  return owner ? owner.id.replace("sample-", "") : "prompt";
}

function look(token, at = 0, focus = true) {
  if (!token || !panel()) return;
  current?.classList.remove("looking");
  current?.setAttribute("tabindex", "-1");
  [current, part] = [token, at];
  token.classList.add("looking");
  token.setAttribute("tabindex", "0");
  token.setAttribute("role", "button");
  token.setAttribute("aria-controls", "token");
  if (focus) token.focus({ preventScroll: true });
  token.scrollIntoView({ block: "nearest" });
  clearTimeout(look.soon);
  look.soon = setTimeout(() => {
    const place = Number(token.dataset.n) + at;
    htmx.ajax("GET", `${location.pathname}/token?sample=${sampleOf(token)}&place=${place}`, { target: "#token", swap: "innerHTML" });
  }, 60);
}

function close() {
  if (!panel()?.innerHTML || panel().closest(".paper")) return false; // a sheet closes its own
  panel().innerHTML = "";
  current?.classList.remove("looking");
  current?.focus({ preventScroll: true });
  return true;
}

function step(by) {
  const several = Number(current.dataset.m ?? 1);
  if (part + by >= 0 && part + by < several) return look(current, part + by);
  const all = tokens();
  const next = all[all.indexOf(current) + by];
  if (next) look(next, by < 0 ? Number(next.dataset.m ?? 1) - 1 : 0);
}

// the way to the next token: to the left in a text that runs there
const onward = () => (getComputedStyle(current.closest(".story")).direction === "rtl" ? -1 : 1);

// the token above or below: the nearest one on the next line of the text
function jump(by) {
  const { left, top, height } = current.getBoundingClientRect();
  const rows = tokens().map((token) => ({ token, box: token.getClientRects()[0] })).filter(({ box }) => box);
  const beyond = rows.filter(({ box }) => (by > 0 ? box.top > top + height / 2 : box.top < top - height / 2));
  if (!beyond.length) return;
  const line = by > 0 ? Math.min(...beyond.map(({ box }) => box.top)) : Math.max(...beyond.map(({ box }) => box.top));
  const near = beyond.filter(({ box }) => Math.abs(box.top - line) < height / 2);
  look(near.reduce((best, one) => (Math.abs(one.box.left - left) < Math.abs(best.box.left - left) ? one : best)).token);
}

document.addEventListener("click", (event) => {
  if (event.target.closest?.("#token .close")) close();
  const token = event.target.closest?.(".run .story [data-n]");
  if (token && !String(getSelection())) look(token);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && close()) {
    event.stopImmediatePropagation(); // a second press stops the run
    return;
  }
  if (!event.target.matches?.(".run .story [data-n], .run .story")) return;
  if (!current?.isConnected || event.target.matches(".story")) {
    if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      look(tokens().find((token) => event.target.contains(token)));
    }
    return;
  }
  const moves = {
    ArrowLeft: () => step(-onward()),
    ArrowRight: () => step(onward()),
    ArrowUp: () => jump(-1),
    ArrowDown: () => jump(1),
    Home: () => look(tokens()[0]),
    End: () => look(tokens().at(-1)),
    Enter: () => panel().querySelector("button")?.focus(),
    " ": () => look(current),
  };
  if (!moves[event.key]) return;
  event.preventDefault();
  moves[event.key]();
}, true);
