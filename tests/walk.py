"""Random work on a sheet in a real browser, and beside it a plain reference: characters, each with the token it is of."""

import copy
import json
import math
import random
from dataclasses import dataclass, field

from waiting import until

LINES = """() => {
  const isBehind = ({data, childNodes}, offset) => offset > (data ?? childNodes).length;
  const isOld = (one) => isBehind(one.startContainer, one.startOffset) || isBehind(one.endContainer, one.endOffset); // until the next frame
  const shades = [...CSS.highlights].flatMap(([name, ranges]) => [...ranges].filter((one) => !isOld(one)).map((one) => {
    const range = document.createRange();
    range.setStart(one.startContainer, one.startOffset);
    range.setEnd(one.endContainer, one.endOffset);
    return {name, range};
  }));
  const looks = (node) => {
    const look = [...node.data].flatMap((c) => Array(c.length).fill('red'));
    for (const {name, range} of shades) {
      if (!range.intersectsNode(node)) continue;
      const from = range.startContainer === node ? range.startOffset : 0;
      look.fill('red ' + name, from, range.endContainer === node ? range.endOffset : node.length);
    }
    return look;
  };
  return [...document.querySelectorAll('.cm-line')].map(line => {
    const parts = [], walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, isRed = node.parentElement.closest('.red');
      if (node.parentElement.closest('[contenteditable=false]')) continue;
      const look = isRed ? looks(node) : [];
      let at = 0;
      for (const c of node.data) {
        parts.push([c, isRed ? look[at] : '']);
        at += c.length;
      }
    }
    return parts;
  });
}"""
SELECT = """async ([from, to]) => {
  const place = (at) => {
    const lines = [...document.querySelectorAll('.cm-line')];
    for (const line of lines) {
      const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
      const nodes = [];
      while (walker.nextNode()) if (!walker.currentNode.parentElement.closest('[contenteditable=false]')) nodes.push(walker.currentNode);
      const length = nodes.reduce((sum, node) => sum + node.data.length, 0);
      if (at > length) { at -= length + 1; continue; }
      for (const node of nodes) {
        if (at <= node.data.length) return [node, at];
        at -= node.data.length;
      }
      return [line, 0];
    }
  };
  document.querySelector('.cm-content').focus();
  const selection = getSelection();
  for (let turns = 0; turns < 20; turns += 1) {
    const [start, end] = [place(from), place(to)];
    selection.setBaseAndExtent(...start, ...end);
    for (let frames = 0; frames < 2; frames += 1) await new Promise(requestAnimationFrame);
    await new Promise((done) => setTimeout(done, 50)); // the editor has noticed, as with people: its own timers are shorter
    // a text that was scrolled just now is drawn anew, with the selection that the editor knew
    const set = [selection.anchorNode, selection.anchorOffset, selection.focusNode, selection.focusOffset];
    if (String(set) === String([...start, ...end]) && set[0] === start[0] && set[2] === end[0]) return;
  }
  throw new Error('nothing can be selected');
}"""
PASTE = """text => {
  const data = new DataTransfer();
  data.setData('text/plain', text);
  document.querySelector('.cm-content').dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
}"""
END = 0  # the storyteller's end marker, which has no characters to stand for it here: it goes with a neighbour's
SNIPPETS = ["a", " the", "狐狸", "🦊", "é", "\n", "従前有", " one two", "<b>&", '"']
BORDERS = [math.log(p) for p in (0.5, 0.2, 0.1, 0.03, 0.01, 0.001)]


@dataclass
class Plain:
    """A sheet as a list of [character, token or None]; a token is (run, sample, place, class of its probability)."""

    text: list = field(default_factory=list)
    aside: list = field(default_factory=list)
    tries: list = field(default_factory=list)  # of each [first token, run, characters of its first word, text, aside]
    current: int = 0

    def cut(self, at):
        """Blacken the token that a place lies within."""
        if 0 < at < len(self.text) and self.text[at - 1][1] == self.text[at][1] is not None:
            token = self.text[at][1]
            self.text = [(c, None if of == token else of) for c, of in self.text]

    def edit(self, at, removed, put):
        self.cut(at)
        self.cut(at + removed)
        self.text[at : at + removed] = [(c, None) for c in put]

    def set_aside(self, tail):
        if tail:
            self.aside.insert(0, tail)

    def write(self, at, run, written):
        self.cut(at)
        self.set_aside(self.text[at:])
        self.text = self.text[:at] + written
        self.tries, self.current = [[written[0][1], run, 0, None, None]], 0

    def put_in(self, at, run, written):
        """Some of what was suggested."""
        self.cut(at)
        self.text[at:at] = written
        if not self.tries or self.tries[self.current][1] != run:
            self.tries, self.current = [[written[0][1], run, 0, None, None]], 0

    def at(self):
        """Where the current try begins; None where it was changed."""
        first = self.tries[self.current][0] if self.tries else None
        return next((n for n, (_, of) in enumerate(self.text) if of and of == first), None)

    def leave(self, at):
        self.tries[self.current][3:] = [self.text[at:], list(self.aside)]

    def retry(self, run, written):
        at, (_, old, word, *_) = self.at(), self.tries[self.current]
        self.leave(at)
        mine = [n for n, (_, of) in enumerate(self.text) if n >= at and of and of[0] == old]
        self.set_aside(self.text[(max(mine) if mine else at) + 1 :])
        self.text = self.text[: at + word] + written
        self.tries.append([self.text[at][1], run, word, None, None])
        self.current = len(self.tries) - 1

    def word(self, at, run, chosen, written):
        """Another word in the place of the token at `at`."""
        token = self.text[at][1]
        end = max(n for n, (_, of) in enumerate(self.text) if of == token) + 1
        if self.at() == at:
            self.leave(at)
        else:
            self.tries = [[token, token[0], 0, self.text[at:], list(self.aside)]]
        self.set_aside(self.text[end:])
        self.text = self.text[:at] + chosen + written
        self.tries.append([self.text[at][1], run, len(chosen), None, None])
        self.current = len(self.tries) - 1

    def flip(self, to):
        at = self.at()
        self.leave(at)
        self.current = to
        text, aside = self.tries[to][3:]
        self.text, self.aside = self.text[:at] + text, list(aside)

    def back(self, piece):
        self.text = self.text + self.aside.pop(piece)


def spelled(tokens, run, sample, start=0):
    """Tokens of a run's JSON as characters with their tokens; one that is a part of a character belongs to a later one."""
    found, held, first, likely = [], b"", start, 0.0
    for place, token in enumerate(tokens, start):
        held, likely = held + bytes(token["bytes"]), likely + (token["logprob"] or math.nan)
        try:
            text = held.decode()
        except UnicodeDecodeError:
            if place + 1 < start + len(tokens):
                continue
            text = held.decode("utf-8", "replace")
        shade = "" if math.isnan(likely) else f"p{sum(likely < border for border in BORDERS)}"
        found += [(c, (run, sample, first, shade)) for c in text]
        held, first, likely = b"", place + 1, 0.0
    return found


class Walk:
    """One person's random work; after every step the page, the server and the reference say the same."""

    def __init__(self, window, seed):
        self.page, self.server, self.draw = window.page, window.server, random.Random(seed)
        self.plain, self.past, self.future, self.done = Plain(), [], [], []
        self.taken = []  # [first, last] of the tokens of a suggestion that each request took
        self.page.on("request", self.note_taken)

    def note_taken(self, request):
        if request.url.endswith("/take"):
            said = request.post_data_json
            self.taken.append((said["from"], said["to"]))

    def begin(self):
        self.page.set_viewport_size({"width": 1200, "height": 4000})
        self.page.goto(f"{self.server.url}/?model=storyteller&max_new_tokens=12&min_new_tokens=12&top_k=5")
        self.page.wait_for_selector(".cm-content")
        self.page.eval_on_selector("[name=lens][value=probability]", "lens => lens.click()")
        self.select(0, 0)
        self.page.keyboard.insert_text("Once upon")
        self.plain.edit(0, 0, "Once upon")
        self.past.append(Plain())
        self.same()
        return self

    # What there is

    def shown(self):
        """The page's characters, each with its class."""
        found = []
        for number, line in enumerate(self.page.evaluate(LINES)):
            found += [("\n", None)] * (number > 0)
            found += [(c, name) for text, name in line for c in text]
        return found

    def state(self):
        path = self.page.evaluate("location.pathname")
        assert not self.done or path.startswith("/s/"), (
            path,
            self.done,
            self.page.evaluate('document.getElementById("problem").innerText'),
        )
        there = self.page.context.request.get(f"{self.server.url}{path}/state") if path.startswith("/s/") else None
        return json.loads(there.text()) if there else None

    def run(self, run):
        return json.loads(self.page.context.request.get(f"{self.server.url}/r/{run}.json").text())

    @staticmethod
    def stored(state):
        """The server's characters, each with its token."""
        found = []
        for span in state["spans"]:
            place = span.get("from")
            found += [(c, None) for c in span.get("text", "")]
            for text, count, lenses in span.get("cells", ()):
                shade = next((one for one in lenses.split() if one[0] == "p"), "")
                found += [(c, (span["run"], span["sample"], place, shade)) for c in text]
                place += count
        return found

    def same(self):
        """Wait until nobody writes and all is sent; then page and server say what the reference says."""
        wanted = self.plain.text
        until(lambda: (s := self.state()) and s["open"] is None and self.stored(s) == wanted, 20, self.told)
        seen = lambda: [(c, self.shade(name)) for c, name in self.shown()]  # noqa: E731
        looks = lambda shade: "red" if shade in ("", "p0") else shade  # noqa: E731 (a likely word has no shade)
        red = [(c, None if c == "\n" else of and looks(of[3])) for c, of in wanted]
        until(lambda: seen() == red, 10, lambda: f"{self.done[-5:]}\n{seen()}\n{red}\nwhat the reference shows")
        state = self.state()
        assert (state["undo"], state["redo"]) == (bool(self.past), bool(self.future)), self.done[-5:]
        aside = [[(c, bool(of)) for c, of in piece] for piece in self.plain.aside]
        told = [[(c, part["red"]) for part in piece for c in part["text"]] for piece in state["aside"]]
        assert told == aside, f"{self.done[-5:]}\naside {told}\nwanted {aside}"
        tries = len(self.plain.tries) if self.plain.at() is not None else 0
        assert state["tries"]["count"] == tries, self.done[-5:]

    @staticmethod
    def shade(name):
        return next((one for one in name.split() if one[0] == "p"), "red") if name else None

    def told(self):
        """What happened last, and where the server's text and the reference first differ."""
        state = self.state()
        stored, wanted = (self.stored(state) if state else []), self.plain.text
        pairs = enumerate(zip(stored, wanted, strict=False))
        first = next((n for n, (one, other) in pairs if one != other), min(len(stored), len(wanted)))
        near = slice(max(0, first - 3), first + 5)
        sizes = f"{first} of {len(stored)} and {len(wanted)}, open {state and state['open']}"
        return f"{self.done[-5:]}\nat {sizes}\nserver {stored[near]}\nwanted {wanted[near]}\nthe same"

    # What is done

    def step(self):
        """One operation of those that can be done now."""
        can = [self.type, self.type, self.delete, self.paste, self.write, self.suggest, self.reload]
        can += [self.retry, self.flip] if self.plain.at() is not None else []
        can += [self.put_back] if self.plain.aside else []
        can += [self.word] if any(of for _, of in self.plain.text) else []
        can += [self.undo, self.undo] if self.past else []
        can += [self.redo, self.redo] if self.future else []
        if len(self.plain.text) > 600:
            can = [self.delete]
        operation = self.draw.choice(can)
        self.done.append(operation.__name__)
        self.page.eval_on_selector(
            "[name=seed]", "(field, seed) => { field.value = seed; }", self.draw.randrange(1 << 30)
        )
        before = copy.deepcopy(self.plain)
        moved = operation()
        if moved is None and before != self.plain:
            self.past.append(before)
            self.future.clear()
        self.same()

    def place(self):
        return self.draw.randrange(len(self.plain.text) + 1)

    def select(self, start, end):
        units = lambda at: sum(1 + (c > "\uffff") for c, _ in self.plain.text[:at])  # noqa: E731
        self.page.evaluate(SELECT, [units(start), units(end)])

    def type(self):
        at, put = self.place(), self.draw.choice(SNIPPETS)
        self.select(at, at)
        if put == "\n":
            self.page.keyboard.press("Enter")
        else:
            self.page.keyboard.insert_text(put)
        self.plain.edit(at, 0, put)

    def delete(self):
        start, end = sorted((self.place(), self.place()))
        end = min(end, start + self.draw.choice([1, 5, 60]))
        if start == end:
            return
        self.select(start, end)
        self.page.keyboard.press(self.draw.choice(["Delete", "Backspace"]))
        self.plain.edit(start, end - start, "")

    def paste(self):
        at, put = self.place(), "".join(self.draw.choices(SNIPPETS, k=3))
        end = min(len(self.plain.text), at + self.draw.choice([0, 0, 3]))
        self.select(at, end)
        self.page.evaluate(PASTE, put)
        self.plain.edit(at, end - at, put)

    def newest(self, before):
        """The run that a press started, when it has ended."""
        versions = lambda: [one["run"] for one in self.state()["versions"]]  # noqa: E731
        run = until(lambda: next((one for one in versions() if one not in before), None), what="a run")
        until(lambda: self.state()["open"] is None, what="the run's end")
        return run, self.run(run)

    def press(self, act):
        """Do something that starts a run; returns its id, the tokens of its prompt, and what it wrote."""
        state = self.state()
        before = [one["run"] for one in state["versions"]] if state else []
        act()
        run, told = self.newest(before)
        return run, told["prompt"]["tokens"], spelled(told["samples"][0]["tokens"], run, 0)

    def told_the_model(self, prompt, at):
        """The model went on from the text before a place."""
        said = b"".join(bytes(token["bytes"]) for token in prompt).decode()
        wanted = "".join(c for c, _ in self.plain.text[:at])
        assert said == wanted, f"{self.done[-5:]}\n{said!r} went to the model,\n{wanted!r} should have"

    def write(self):
        at = self.place()
        self.select(at, at)
        run, prompt, written = self.press(lambda: self.page.keyboard.press("Control+Enter"))
        self.told_the_model(prompt, at)
        self.plain.write(at, run, written)

    def suggest(self):
        """Take one of three, whole or a word or two of it; each is a step that undo takes back."""
        at = self.place()
        self.select(at, at)
        self.page.click("[data-do=suggest]")
        self.page.wait_for_selector(".suggestions:not([hidden]) .note.unseen", state="attached")
        self.page.keyboard.press(str(self.draw.randint(1, 3)))
        words = self.draw.choice([0, 1, 2])
        self.taken.clear()

        def take():
            for _ in range(words):
                self.page.keyboard.press("Control+ArrowRight")
            self.page.keyboard.press("Escape" if words else "Enter")
            # requests are noted while the page is asked something
            until(
                lambda: self.page.evaluate("1") and len(self.taken) >= max(1, words), what="what was taken on its way"
            )

        run, prompt, _ = self.press(take)
        self.told_the_model(prompt, at)
        tokens = self.run(run)["samples"][0]["tokens"]
        for first, last in self.taken:
            self.past.append(copy.deepcopy(self.plain))
            written = spelled(tokens[first:last], run, 0, first)
            self.plain.put_in(at, run, written)
            at += len(written)
        self.future.clear()
        return True

    def retry(self):
        self.page.focus(".cm-content")
        run, _, written = self.press(lambda: self.page.keyboard.press("Alt+r"))
        self.plain.retry(run, written)

    def word(self):
        red = [n for n, (_, of) in enumerate(self.plain.text) if of and (not n or self.plain.text[n - 1][1] != of)]
        at = self.draw.choice(red)
        self.select(at, at)
        self.page.keyboard.press("Alt+Enter")
        self.page.wait_for_selector("#token .bars button")
        words = self.page.locator(f"#token .bars button:not([value='{END}'])")
        which = self.draw.randrange(words.count())
        run, prompt, written = self.press(lambda: words.nth(which).click())
        chosen = spelled(prompt[-1:], run, -1, len(prompt) - 1)
        self.plain.word(at, run, chosen, written)

    def flip(self):
        if len(self.plain.tries) < 2:
            return
        back = self.plain.current > 0 and (self.draw.random() < 0.5 or self.plain.current + 1 == len(self.plain.tries))
        self.page.focus(".cm-content")
        self.page.keyboard.press("Alt+PageUp" if back else "Alt+PageDown")
        self.plain.flip(self.plain.current + (-1 if back else 1))

    def put_back(self):
        piece = self.draw.randrange(len(self.plain.aside))
        self.page.locator(".aside li button").nth(piece).click()
        self.page.evaluate("scrollTo(0, 0)")  # what is not on the screen is not in the page
        self.plain.back(piece)

    def undo(self):
        self.page.focus(".cm-content")
        self.page.keyboard.press("Control+z")
        self.future.append(self.plain)
        self.plain = self.past.pop()
        return True

    def redo(self):
        self.page.focus(".cm-content")
        self.page.keyboard.press("Control+y")
        self.past.append(self.plain)
        self.plain = self.future.pop()
        return True

    def reload(self):
        self.page.reload()
        self.page.wait_for_selector(".cm-content")

    def back_and_forth(self):
        """Undo to the beginning and redo to the end; the page ends with the very text that it had."""
        text, steps = self.shown(), len(self.past)
        for operation in (self.undo, self.redo):
            for _ in range(steps):
                operation()
                self.same()
        assert self.shown() == text
