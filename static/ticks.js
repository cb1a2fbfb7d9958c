// A setting that is on or off for most people: a tick in the place of the box, which is what is sent. An empty box means on.

const boxOf = (tick) => document.querySelector(`form.write [name="${CSS.escape(tick.dataset.ticks)}"]`);

// presets.js tells of every change
document.addEventListener("settings", () => {
  for (const tick of document.querySelectorAll("[data-ticks]")) {
    const box = boxOf(tick);
    tick.checked = Number(box.value.trim() || box.placeholder) !== Number(box.dataset.off);
  }
});

document.addEventListener("change", ({ target }) => {
  if (!target.dataset?.ticks) return;
  const box = boxOf(target);
  box.value = target.checked ? "" : box.dataset.off;
  for (const kind of ["input", "change"]) box.dispatchEvent(new Event(kind, { bubbles: true }));
});
