// The sheet's script is large: it is asked for with the page, and begins after the page is painted. Whoever types or presses
// before it is there does so in the form, and the script takes it over.

const { href } = document.querySelector("link[rel=modulepreload][data-sheet]");
const field = document.querySelector("#prompt"); // hidden as soon as the script is there
field.addEventListener("input", () => { field.dataset.typed = ""; }, { once: true });

const held = new AbortController();
document.addEventListener("submit", (event) => {
  if (event.target !== field.form || field.hidden || event.submitter?.name) return;
  event.preventDefault();
  event.stopPropagation();
  field.dataset.pressed = "";
}, { capture: true, signal: held.signal });

// Where it does not come, the form is sent as without scripts.
function goWithout() {
  held.abort();
  if ("pressed" in field.dataset) field.form.requestSubmit();
}

const begin = () => import(href).catch(goWithout);
if (document.hidden) begin(); // what is not seen is not painted
else requestAnimationFrame(() => setTimeout(begin));
