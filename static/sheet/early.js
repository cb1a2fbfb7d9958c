// What was typed into the form's field before the editor took its place.

import { difference, textOf } from "./points.js";

// As a change of the text that stood there, or null: nothing was, or the field held another text.
export function typedEarly(field, text) {
  const { defaultValue: before, value: now } = field;
  if (!("typed" in field.dataset) || before === now || before !== text) return null;
  return difference(textOf(before), textOf(now));
}
