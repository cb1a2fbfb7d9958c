// The sliders of the settings: each shows what is in force, the box beside it the same as a number, and what differs from the
// preset is marked and can be put back. An empty box means what its placeholder says; presets.js keeps that, and tells here.

const boxOf = (name) => document.querySelector(`form.write .grid [name="${CSS.escape(name)}"]`);
const stopsOf = (slider) => JSON.parse(slider.dataset.stops);

// The box was changed, as if it had been typed in: `kinds` of events tell it.
function tell(box, ...kinds) {
  for (const kind of kinds) box.dispatchEvent(new Event(kind, { bubbles: true }));
}

// A stop as it is typed. A value that the preset has anyway leaves the box empty.
function slide(slider) {
  const box = boxOf(slider.dataset.slides);
  const stop = stopsOf(slider)[slider.value];
  box.value = stop === Number(box.placeholder) ? "" : String(stop);
  tell(box, "input");
}

// The place of the stop nearest to a value; at off stands only what is off.
function nearest(stops, value, off) {
  const far = stops.map((stop) => (stop === value ? -1 : stop === off ? Infinity : Math.abs(stop - value)));
  return far.indexOf(Math.min(...far));
}

function drawSlider(slider, differs) {
  const box = boxOf(slider.dataset.slides);
  const typed = box.value.trim();
  const value = Number(typed || box.placeholder);
  const off = box.dataset.off === undefined ? NaN : Number(box.dataset.off);
  const isNumber = Number.isFinite(value);
  slider.value = nearest(stopsOf(slider), isNumber ? value : Number(box.placeholder), off);
  slider.classList.toggle("astray", !isNumber);
  const said = !isNumber ? translated("“{typed}” is no number", { typed }) : value === off ? translated("off") : String(value);
  slider.setAttribute("aria-valuetext", differs ? said : translated("{value}, as the preset has it", { value: said }));
  const word = box.parentElement.querySelector(".off");
  if (word) word.hidden = value !== off;
}

// presets.js has drawn what the boxes mean, and knows which of them differ
document.addEventListener("settings", ({ detail: { differing } }) => {
  for (const slider of document.querySelectorAll("[data-slides]")) drawSlider(slider, differing.includes(slider.dataset.slides));
  for (const reset of document.querySelectorAll("[data-reset]")) {
    reset.hidden = !differing.includes(reset.dataset.reset);
    reset.closest(".option").classList.toggle("differing", !reset.hidden);
  }
});

document.addEventListener("input", ({ target }) => target.dataset?.slides && slide(target));
document.addEventListener("change", ({ target }) => target.dataset?.slides && tell(boxOf(target.dataset.slides), "change"));
document.addEventListener("click", ({ target }) => {
  const name = target.closest?.("[data-reset]")?.dataset.reset;
  if (!name) return;
  const box = boxOf(name);
  box.value = "";
  tell(box, "input", "change");
  box.focus();
});
