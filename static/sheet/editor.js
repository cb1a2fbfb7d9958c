// The editor: one text in the story's typeface, without a history of its own, as undo and redo are the server's.

import { EditorState, Prec } from "@codemirror/state";
import { Decoration, EditorView, ViewPlugin, highlightSpecialChars, keymap, placeholder } from "@codemirror/view";
import { insertNewline, standardKeymap } from "@codemirror/commands";
import { cells } from "./cells.js";
import { edgeInMargin } from "./edge.js";
import { fading } from "./fade.js";
import { inks } from "./inks.js";
import { frameBehind, looked } from "./looked.js";
import { edge, openStart, remote } from "./marks.js";
import { lens, shades } from "./shades.js";
import { chosen } from "./suggest.js";

const NAME = translated("Your sheet: you write in black, the model goes on in red");
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f]/g; // that are not seen; a picture stands for each

function picture(code) {
  const sign = document.createElement("span");
  sign.textContent = String.fromCharCode(code === 0x7f ? 0x2421 : 0x2400 + code);
  sign.className = "control";
  return sign;
}

// Each paragraph runs as its first letter does.
const ownDirection = Decoration.line({ attributes: { dir: "auto" } });
const directions = ViewPlugin.fromClass(class {
  constructor(view) {
    this.decorations = this.draw(view);
  }

  update({ view, docChanged, viewportChanged }) {
    if (docChanged || viewportChanged) this.decorations = this.draw(view);
  }

  draw({ viewportLineBlocks }) {
    return Decoration.set(viewportLineBlocks.map(({ from }) => ownDirection.range(from)));
  }
}, { decorations: (plugin) => plugin.decorations });

// With Caps Lock on, z and Z change places: what counts is the Shift key.
const isZ = ({ key, keyCode, ctrlKey, metaKey, altKey }) => (ctrlKey || metaKey) && !altKey && (key.toLowerCase() === "z" || keyCode === 90);

// Makes the editor in `parent`. `does` has the presses by name, `typed(transaction)`, and `changed(update)`.
export function makeEditor(parent, nonce, does, hint) {
  const press = (name) => () => does[name]() ?? true;
  const keys = [
    { key: "Mod-Enter", run: press("write"), stopPropagation: true },
    { key: "Enter", run: insertNewline, shift: insertNewline }, // the keymap's own would eat the space behind it
    { any: (view, event) => isZ(event) && press(event.shiftKey ? "redo" : "undo")() },
    { key: "Mod-y", run: press("redo") },
    { key: "Alt-r", run: press("retry") },
    { key: "Alt-PageUp", run: press("previous") },
    { key: "Alt-PageDown", run: press("next") },
    { key: "Alt-Enter", run: press("look") },
  ].map((binding) => ({ preventDefault: Boolean(binding.key), ...binding }));
  return new EditorView({
    parent,
    state: EditorState.create({
      extensions: [
        EditorState.lineSeparator.of("\n"),
        EditorView.cspNonce.of(nonce),
        EditorView.lineWrapping,
        EditorView.perLineTextDirection.of(true),
        EditorView.contentAttributes.of({ "aria-label": NAME, spellcheck: "true", autocapitalize: "sentences", id: "text", "aria-describedby": "editor-keys" }),
        EditorView.clipboardInputFilter.of((text) => text.replace(/\r\n?/g, "\n").toWellFormed()),
        EditorView.updateListener.of((update) => {
          for (const one of update.transactions) if (one.docChanged && !one.annotation(remote)) does.typed(one);
          does.changed(update);
        }),
        EditorView.domEventHandlers({
          beforeinput(event) {
            const name = { historyUndo: "undo", historyRedo: "redo" }[event.inputType]; // from a menu, or a shaken phone
            if (!name) return false;
            does[name]();
            return true;
          },
          click: (event, view) => does.clicked(event, view),
          compositionend: () => { setTimeout(does.composed); },
          blur: () => does.left(),
        }),
        EditorView.scrollMargins.of(() => does.margins()),
        placeholder(hint),
        highlightSpecialChars({ specialChars: CONTROLS, render: picture, addSpecialChars: null }),
        directions,
        cells,
        lens,
        inks,
        shades,
        fading,
        edge,
        openStart,
        edgeInMargin,
        looked,
        frameBehind,
        chosen,
        Prec.highest(EditorView.domEventHandlers({ keydown: (event) => does.key(event) })),
        Prec.high(keymap.of(keys)),
        keymap.of(standardKeymap),
      ],
    }),
  });
}

