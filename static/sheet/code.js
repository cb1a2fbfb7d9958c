// The sheet's text as code: the request that writes its last stretch, or by which the model would go on from a text that
// nobody wrote on yet.

import { cells } from "./cells.js";
import { points } from "./points.js";
import { Refused, ask } from "./requests.js";

const WRITES = translated("This writes what the model wrote last.");
const WOULD = translated("This would go on from your text.");
const FAILED = translated("The request could not be made just now; close this and open it again.");

// The cell that a text ends in; null where a person typed its end, or a model as another one's prompt.
function lastCell(state) {
  let found = null;
  state.field(cells).between(state.doc.length, state.doc.length, (_from, to, cell) => {
    if (to === state.doc.length) found = cell;
  });
  return found && found.sample >= 0 ? found : null;
}

// `box` is a details element with a pre for each form of the code; `page` has the `view`, the `session` and fields().
export function showCode(box, base, page) {
  const said = box.querySelector("[role=status]");
  const asked = (address, body) => ask(base + address, body, { trouble: (kind) => { if (kind) said.textContent = FAILED; } });

  // What was typed goes first, so that the server goes on from the text that is here.
  const goingOn = async () => {
    const { session, view } = page;
    const { options, memory } = page.fields();
    if (!view.state.doc.length && !session.copy.id) return asked("code", { options, memory });
    await session.inTurn(() => session.ready());
    const { id, basis } = session.copy;
    if (!id) throw new Error("there is no sheet, for a reason that the page says");
    return asked(`s/${id}/code`, { rev: basis.rev, at: points(view.state.doc), options });
  };

  const fill = async () => {
    const cell = lastCell(page.view.state);
    try {
      const code = await (cell ? asked(`r/${cell.run}/code?sample=${cell.sample}`) : goingOn());
      said.textContent = cell ? WRITES : WOULD;
      for (const pre of box.querySelectorAll("pre")) pre.textContent = code[pre.dataset.form];
    } catch (refused) {
      said.textContent = refused instanceof Refused && refused.status !== 409 ? refused.message : FAILED;
      for (const pre of box.querySelectorAll("pre")) pre.textContent = "";
    }
  };
  box.addEventListener("toggle", () => box.open && fill());
}
