// Where something stands that belongs to a word: under it, or above it where there is more room.

const GAP = 6; // pixels

// The address of what the server says of a cell's first token.
export function addressOf(base, { run, sample, place }) {
  return `${base}r/${run}/token?sample=${sample < 0 ? "prompt" : sample}&place=${place}`;
}

// Put `box`, which stands in the sheet's frame, to the word from `from` to `to`.
export function placeAt(box, view, { from, to }) {
  if (!box.offsetParent) return; // on a phone, where it has its own place
  const frame = box.offsetParent.getBoundingClientRect();
  const start = view.coordsAtPos(from, 1);
  const end = view.coordsAtPos(to, -1);
  if (!start || !end) return;
  const { offsetWidth: width, offsetHeight: height } = box;
  const isBelow = end.bottom + GAP + height < window.innerHeight - document.querySelector(".acts").offsetHeight || start.top < height + GAP;
  const left = Math.min(start.left, start.right) - frame.left;
  box.style.left = `${Math.max(0, Math.min(left, frame.width - width))}px`;
  box.style.top = `${isBelow ? end.bottom + GAP - frame.top : start.top - GAP - height - frame.top}px`;
}

// Put `box` under the line of a caret that is `here`; where the bar would cover it, or where it stands over that line itself,
// as at a phone's bottom, the text moves up.
export function placeBelow(box, here) {
  const acts = document.querySelector(".acts");
  if (box.offsetParent) {
    box.style.top = `${here.bottom + GAP - box.offsetParent.getBoundingClientRect().top}px`;
    box.style.bottom = "";
  } else box.style.bottom = `${window.innerHeight - acts.getBoundingClientRect().top}px`;
  const { top, bottom } = box.getBoundingClientRect();
  const isBar = getComputedStyle(acts).position === "fixed"; // in a low window it stands below the text
  const limit = isBar ? acts.querySelector(".status").getBoundingClientRect().top : window.innerHeight;
  const over = box.offsetParent ? bottom - limit : here.bottom + GAP - top;
  if (over > 0) window.scrollBy(0, over);
}
