"""How much likelier a second model finds each token of a text than a first one does.

A token's shift is log p_second - log p_first, in nats: 0.69 is twice as likely, -3 a twentieth. A cell of several tokens
(a character that was cut) has shifted by as much as all of them together.
"""

import math
from dataclasses import dataclass

import numpy as np

from generate import N_, counted, gettext, known
from webapp.runs import derivation
from webapp.views.run_view import RunView
from webapp.views.sentences import share
from webapp.views.surprise import rounded
from webapp.views.tokens import BLANKS, VISIBLE, cells

FACTORS = (2, 5, 20)  # times likelier, or less likely, from which on a token has the next stronger colour
BORDERS = np.log(FACTORS)  # the same in nats
DEGREES = (*((f"less{n}", FACTORS[n - 1]) for n in (3, 2, 1)), *((f"more{n}", FACTORS[n - 1]) for n in (1, 2, 3)))
MOST_MOVED = 10  # cells listed
BEFORE = 28  # characters shown before each of them


def degree(shift: float) -> str:
    """The class of a shift: `less3` to `less1`, `same`, `more1` to `more3`; `unknown` where a model had no prediction."""
    if math.isnan(shift):
        return "unknown"
    step = int((abs(shift) >= BORDERS).sum())
    return f"{'more' if shift > 0 else 'less'}{step}" if step else "same"


def times(shift: float) -> str:
    """A shift in words: `3.1 times likelier`."""
    factor = math.exp(min(abs(shift), 40))
    told = N_("{factor} times likelier") if shift > 0 else N_("{factor} times less likely")
    return gettext(told, factor=f"{factor:,.1f}" if factor < 9.95 else f"{factor:,.0f}")


@dataclass(frozen=True)
class Moved:
    """Whole characters of the text, and both models' log-probability of them (nats; NaN: no prediction)."""

    start: int
    text: str
    before: str  # the characters in front of it
    by_model: bool
    first: float
    second: float
    special: str = ""  # what a token without a text is called

    @property
    def lead(self) -> str:
        """The space that a word begins with; it stays without colour, as it may hang over a line's end."""
        return " " if self.text.startswith(" ") and self.text.strip() else ""

    @property
    def body(self) -> str:
        """The text without its `lead`."""
        return self.text.removeprefix(self.lead)

    @property
    def name(self) -> str:
        """The body with its white space made visible."""
        return self.body.translate(VISIBLE) if self.text.strip() else self.text.translate(VISIBLE | BLANKS)

    @property
    def context(self) -> str:
        """Some whole words in front, on one line."""
        words = self.before.translate(VISIBLE)
        cut = words.find(" ") + 1 if len(words) == BEFORE else 0
        return ("…" if cut else "") + words[cut:]

    @property
    def shift(self) -> float:
        """log p_second - log p_first, in nats."""
        return self.second - self.first

    @property
    def degree(self) -> str:
        """The class of the shift."""
        return degree(self.shift)

    @property
    def words(self) -> str:
        """The shift in words: `3.1 times likelier`."""
        return times(self.shift)

    @property
    def shares(self) -> tuple[str, str]:
        """Both models' probability of it as a person reads one, that of the first model first."""
        return share(self.first), share(self.second)


class Shift:
    """One text as two models see it: the run's `view`, and `scored`, in which the second model has read all its tokens."""

    def __init__(self, view: RunView, scored: RunView):
        sample = view.log.samples[0]
        records, authors = derivation.joined(view, view.log, 0)
        self.models = view.model, scored.model
        self._view, self._ids = view, records["id"]
        self._room = len(view.vocabulary.bytes_of(view.prompt_ids.tolist())) + (sample.text_end or 0)
        count = self._shown()
        self.first = records["logprob"][:count].astype(np.float64)
        self.second = scored.log.prompt["logprob"][:count].astype(np.float64)
        self.known = known(records[:count], "logprob") & known(scored.log.prompt[:count], "logprob")
        turns = np.searchsorted(np.cumsum(authors), np.arange(count), side="right")
        self.by_model = turns % 2 == 1
        self.cells = list(self._cells(count))

    def _shown(self) -> int:
        """How many tokens the text has; those that a stop string hides are not of it."""
        ends = np.cumsum([len(self._view.vocabulary.tokens[index]) for index in self._ids.tolist()])
        return min(len(ends), int(np.searchsorted(ends, self._room)) + 1)

    def _cells(self, count: int):
        before = ""
        for cell in cells(self._ids[:count], self._view.vocabulary, room=self._room, chips=self._view.text_from):
            place = slice(cell.start, cell.end)
            first, second = float(self.first[place].sum()), float(self.second[place].sum())
            yield Moved(cell.start, cell.text, before, bool(self.by_model[cell.start]), first, second, cell.special)
            before = (before + cell.text)[-BEFORE:]

    @property
    def most_moved(self) -> list[Moved]:
        """The cells that moved most, either way, the farthest first."""
        compared = [cell for cell in self.cells if not math.isnan(cell.shift)]
        return sorted(compared, key=lambda cell: -abs(cell.shift))[:MOST_MOVED]

    def sentence(self) -> str:
        """What happened to the text as a whole."""
        mean = float((self.second - self.first)[self.known].mean())
        first, second = (rounded(math.exp(-one[self.known].mean())) for one in (self.first, self.second))
        values = {"now": second, "then": first, "tokens": counted(int(self.known.sum())), "how": nats(mean)}
        values |= {"reader": self.models[1], "writer": self.models[0]}
        if abs(mean) >= 0.005:
            return gettext(
                "{reader} finds this text {how} than {writer}: perplexity {now} against {then}, over {tokens}.",
                **values,
            )
        return gettext(
            "{reader} finds this text as likely as {writer}: perplexity {now} against {then}, over {tokens}.", **values
        )

    def by_author(self) -> str:
        """The same for what each author wrote, where there are two. A model always finds its own words likely."""
        theirs, own = self.known & ~self.by_model, self.known & self.by_model
        if not theirs.any() or not own.any():
            return ""
        moved = self.second - self.first
        return gettext(
            "What a person wrote is {theirs}, what a model wrote {own}; a model always finds its own words likely.",
            theirs=nats(float(moved[theirs].mean())),
            own=nats(float(moved[own].mean())),
        )


def nats(mean: float) -> str:
    """A mean shift in words: `0.12 nats a token likelier`."""
    if mean > 0:
        return gettext("{nats:.2f} nats a token likelier", nats=abs(mean))
    return gettext("{nats:.2f} nats a token less likely", nats=abs(mean))
