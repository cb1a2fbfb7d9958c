// Presets: what an empty field stands for, what differs from the chosen one, and a person's own, which this browser keeps.

const KEY = "rubric-presets";
const CANNOT = translated("Your browser does not let this page keep anything; a link to it can be kept as a bookmark.");
let filled = {}; // what the chosen preset of one's own has put into the fields

const form = () => document.querySelector("form.write");
const chosen = () => form().querySelector("[name=preset]:checked") ?? form().querySelector("[name=preset]");
const optionFields = () => [...form().querySelectorAll(".grid [name]:not([type=checkbox])")];
const say = (sentence) => { document.getElementById("copied").textContent = sentence; };

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// what is filled in, as {name: text}; a seed is no part of how to choose
function typed({ seed = false } = {}) {
  const found = optionFields().map((field) => [field.name, field.value.trim()]);
  return Object.fromEntries(found.filter(([name, value]) => value && (seed || name !== "seed")));
}

// what a browser keeps: [{name, preset, values}]; nothing where it keeps nothing, or something that is none of ours
function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    const whole = (one) => typeof one?.name === "string" && typeof one.preset === "string" && one.values && typeof one.values === "object";
    return Array.isArray(found) ? found.filter(whole) : [];
  } catch {
    return [];
  }
}

function keep(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
    return true;
  } catch {
    say(CANNOT);
    return false;
  }
}

const short = (text) => (text.length > 32 ? `${text.slice(0, 31)}…` : text).replaceAll("\n", " · ");
const built = (name) => [...form().querySelectorAll("[name=preset]:not([data-own])")].find((radio) => radio.value === name);

function alike(one, values) {
  const names = Object.keys(values);
  return names.length === Object.keys(one.values).length && names.every((name) => String(one.values[name]) === values[name]);
}

// One's own as further radio buttons. The one is chosen that says what the fields say: so it is again after Back, and by a link.
function drawOwn() {
  const group = document.getElementById("presets");
  const base = built(chosen().value) ?? built("model");
  for (const old of group.querySelectorAll(".own")) old.remove();
  const values = typed();
  base.checked = true;
  filled = {};
  for (const [n, one] of kept().entries()) {
    const start = built(one.preset) ?? built("model");
    const radio = element("input", { type: "radio", name: "preset", value: start.value });
    Object.assign(radio.dataset, { own: one.name, sets: start.dataset.sets });
    radio.setAttribute("aria-describedby", `says-own-${n}`);
    const forget = element("button", { type: "button", className: "link", textContent: translated("Forget it") });
    forget.dataset.forget = one.name;
    const says = element("small", { className: "own", id: `says-own-${n}` }, translated("Your own, on top of “{preset}”.", { preset: start.nextElementSibling.textContent }), forget);
    group.append(element("label", { className: "own" }, radio, element("span", { textContent: one.name })), says);
    if (base.value === start.value && alike(one, values)) {
      radio.checked = true;
      filled = values;
    }
  }
}

// what a field means while it is empty, which its placeholder says: the preset's, the model's, the usual
function drawMeanings() {
  const model = JSON.parse(form().model.selectedOptions[0]?.dataset.defaults ?? "{}");
  const sets = JSON.parse(chosen().dataset.sets);
  for (const field of optionFields()) {
    if (field.dataset.usual) field.placeholder = sets[field.name] ?? model[field.name] ?? field.dataset.usual;
  }
}

function drawDiffering() {
  const box = document.getElementById("differs");
  const differ = optionFields().filter((field) => {
    const value = field.value.trim();
    return value && !(field.dataset.usual && Number(value) === Number(field.placeholder));
  });
  document.dispatchEvent(new CustomEvent("settings", { detail: { differing: differ.map(({ name }) => name) } }));
  const told = differ.filter(({ name }) => !["max_new_tokens", "samples"].includes(name)); // the bar shows the one; a sheet writes one
  document.getElementById("chips").replaceChildren(...told.map((field) => {
    const cross = element("i", { textContent: "×", ariaHidden: "true" });
    const isOff = field.dataset.off && Number(field.value) === Number(field.dataset.off);
    const button = element("button", { type: "button", title: field.name }, `${field.dataset.title} ${isOff ? translated("off") : short(field.value.trim())}`, cross);
    button.append(element("span", { className: "unseen", textContent: translated(": empty it") }));
    button.dataset.empty = field.name;
    return element("li", {}, button);
  }));
  const values = typed();
  const asked = Object.keys(values).length > 0;
  const same = kept().some((one) => one.name === chosen().dataset.own && alike(one, values));
  box.querySelector("[data-keep]").hidden = !asked || same || !box.querySelector(".keep").hidden;
  if (!asked) box.querySelector(".keep").hidden = true;
  const copy = box.querySelector("[data-copy]");
  copy.dataset.copy = `${box.dataset.link}?${new URLSearchParams({ preset: chosen().value, ...values })}`;
  copy.hidden = !asked && chosen().value === "model";
  box.hidden = copy.hidden && !document.getElementById("copied").textContent;
}

// what the bar says of the settings: the preset's name, and the length
function drawBar() {
  const [length, field] = [document.getElementById("length"), form().max_new_tokens];
  document.getElementById("preset-name").textContent = chosen().nextElementSibling.textContent;
  length.placeholder = field.placeholder;
  if (length !== document.activeElement) length.value = field.value;
}

function draw() {
  drawMeanings();
  drawDiffering();
  drawBar();
}

function begin() {
  const group = document.getElementById("presets");
  if (!group) return;
  group.dataset.begun = "yes";
  drawOwn();
  draw();
}

function set(name, value) {
  const field = optionFields().find((one) => one.name === name);
  if (field) field.value = value;
}

function choose(radio) {
  const now = typed();
  for (const [name, value] of Object.entries(filled)) if (now[name] === value) set(name, "");
  const one = kept().find(({ name }) => name === radio.dataset.own);
  for (const [name, value] of Object.entries(one?.values ?? {})) set(name, String(value));
  filled = one ? typed() : {};
}

function keepAs() {
  const input = document.getElementById("keep-as");
  const name = input.value.trim();
  if (!name) return input.focus();
  const one = { name, preset: chosen().value, values: typed() };
  input.closest(".keep").hidden = true;
  if (keep([...kept().filter((other) => other.name !== name), one])) {
    input.value = "";
    say("");
    drawOwn();
  }
  draw();
  chosen().focus();
}

function forget(name) {
  if (!keep(kept().filter((one) => one.name !== name))) return;
  drawOwn();
  draw();
  chosen().focus();
}

function empty(button) {
  const place = [...document.querySelectorAll("[data-empty]")].indexOf(button);
  set(button.dataset.empty, "");
  form().querySelector(`[name="${button.dataset.empty}"]`).dispatchEvent(new Event("change", { bubbles: true }));
  drawDiffering();
  const left = document.querySelectorAll("[data-empty]");
  (left[Math.min(place, left.length - 1)] ?? document.getElementById("preset-name")).focus();
}

document.addEventListener("input", ({ target }) => {
  if (target.id === "length") form().max_new_tokens.value = target.value;
  else if (!target.matches?.("form.write .grid [name]")) return;
  drawDiffering();
  drawBar();
});

document.addEventListener("change", ({ target }) => {
  if (target.id === "length") form().max_new_tokens.dispatchEvent(new Event("change", { bubbles: true }));
  else if (target.name === "max_new_tokens") drawBar();
  if (!target.matches?.("form.write [name=preset], form.write [name=model]")) return;
  say("");
  if (target.name === "preset") choose(target);
  draw();
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("form.write button");
  if (!button) return;
  if (button.dataset.empty) empty(button);
  else if (button.dataset.forget !== undefined) forget(button.dataset.forget);
  else if ("kept" in button.dataset) keepAs();
  else if ("keep" in button.dataset) {
    document.querySelector(".keep").hidden = false;
    button.hidden = true;
    document.getElementById("keep-as").focus();
  }
});

// Enter in the field of the name keeps, and does not send the form
document.addEventListener("keydown", (event) => {
  if (event.target.id !== "keep-as" || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter") keepAs();
  else if (event.key === "Escape") {
    event.target.closest(".keep").hidden = true;
    draw();
    document.querySelector("[data-keep]").focus();
  } else return;
  event.preventDefault();
});

// also after Back: then the browser fills in fields, or htmx puts a whole page in; other swaps leave the form as it is
window.addEventListener("pageshow", begin);
document.addEventListener("htmx:after:swap", () => {
  if (!document.getElementById("presets")?.dataset.begun) begin();
});
begin();
