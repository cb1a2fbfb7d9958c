// The sheet's text as code: the request that writes its last stretch, or that would go on from a text nobody wrote on yet.

import { cells } from "./cells.js";

const FAILED = "The request could not be made just now; close this and open it again.";

// The run that wrote what a text ends in, or null.
function lastRun(state) {
  let found = null;
  state.field(cells).between(state.doc.length, state.doc.length, (_from, to, cell) => {
    if (to === state.doc.length) found = cell.run;
  });
  return found;
}

// `box` is a details element with a pre for each form of the code; `view` the editor, `form` the sheet's.
export function showCode(box, base, view, form) {
  const said = box.querySelector("[role=status]");
  const fill = async () => {
    const run = lastRun(view.state);
    const fields = new FormData(form);
    fields.set("prompt", view.state.doc.toString());
    const options = { headers: { Accept: "application/json" } };
    const [address, more] = run ? [`${base}r/${run}/code`, {}] : [`${base}code`, { method: "POST", body: new URLSearchParams(fields) }];
    try {
      const answer = await fetch(address, { ...options, ...more });
      const code = await answer.json();
      said.textContent = answer.ok ? (run ? "This writes what the model wrote last." : "This would go on from your text.") : code.problem;
      for (const pre of box.querySelectorAll("pre")) pre.textContent = code[pre.dataset.form] ?? "";
    } catch {
      said.textContent = FAILED;
    }
  };
  box.addEventListener("toggle", () => box.open && fill());
}
