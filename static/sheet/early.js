// What was typed into the form's field before the editor took its place.

// As a change of the text that stood there, or null: nothing was, or the field held another text.
export function typedEarly(field, text) {
  const [before, now] = [field.defaultValue, field.value];
  if (!("typed" in field.dataset) || before === now || before !== text) return null;
  const most = Math.min(before.length, now.length);
  let from = 0;
  while (from < most && before[from] === now[from]) from += 1;
  let same = 0; // at the end
  while (same < most - from && before.at(-1 - same) === now.at(-1 - same)) same += 1;
  return { from, to: before.length - same, insert: now.slice(from, now.length - same) };
}
