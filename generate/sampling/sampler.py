"""From logits to the next token of every row at once.

The order of the steps, stated here and nowhere else; each is off by default but for temperature and top_k:

1. what makes single tokens more or less likely: repetition_penalty, frequency_penalty, presence_penalty, DRY, logit_bias
2. tokens that must not stand here: those that would end a text before its time, or complete a banned phrase
3. top_n_sigma
4. temperature; 0 takes the likeliest token, and nothing below acts
5. top_k, top_p, min_p, XTC, each on what the one before has left

The text that penalties and DRY look at is all of it, the prompt included, as that is what a run that goes on has too.

Tokens stand in one order, whatever the device and the precision: the likelier first, and of equally likely ones (which
16-bit numbers often make) the one with the lower id. Every filter keeps tokens that follow each other in it: all but XTC
the first so and so many, so that top_k 1 and top_p 0 are the greedy choice; XTC leaves out some of the first. What is
kept comes down to its ends: the last token's score, the threshold, and its id; the first one's, the ceiling, and its id.
"""

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from generate.sampling.filters import divisor, is_greedy, penalised
from generate.sampling.noise import place_keys, row_key
from generate.sampling.pressure import Pressed, Pressures
from generate.sampling.records import ALTERNATIVES
from generate.sampling.top import FEW, Top, top_few, top_few_again
from generate.sampling.ways import draw_few, draw_few_filtered, draw_plain, draw_sorted, take_likeliest

AHEAD = 32  # positions whose keys of the noise are computed at once


@dataclass
class Filters:
    """The filters beyond top_k and top_p, of B rows: float32 [B] each. `least` is the log of min_p."""

    top_n_sigma: Tensor
    least: Tensor
    xtc_probability: Tensor
    xtc_threshold: Tensor

    @property
    def on(self) -> Tensor:
        """Which of the rows have any."""
        return (self.top_n_sigma > 0) | ~self.least.isneginf() | (self.xtc_probability > 0)

    def pick(self, index: Tensor) -> "Filters | None":
        """The same of some rows; None where they have none."""
        picked = Filters(*(getattr(self, part.name)[index] for part in fields(self)))
        return picked if picked.on.any() else None


@dataclass
class RowOptions:
    """The options of B rows as tensors [B] on the device; `seen` is bool [B, V] where any row has a penalty.

    None of the tokens `ends` is chosen before position `ends_from`; both None where no row has such a position.
    `filters` and `pressures` are None where no row has any; the latter are kept up to date by whoever knows the tokens.
    `blocked` are ids that some rows must not choose, at this position only.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    penalty: Tensor
    seed: Tensor
    sample: Tensor
    position: Tensor
    seen: Tensor | None
    ends: Tensor | None = None
    ends_from: Tensor | None = None
    filters: Filters | None = None
    pressures: Pressures | None = None
    blocked: list[tuple[int, list[int]]] = field(default_factory=list)

    def __post_init__(self):
        """Decide, once for as long as the rows stay together, by which way each is drawn.

        The way follows from a row's own options, so that its neighbours change nothing, not even a rounding.
        """
        self.greedy = is_greedy(self.temperature)
        self.divisor = divisor(self.temperature, torch.where)[:, None]
        self._early = 0 if self.ends_from is None else int((self.ends_from - self.position).max())
        self.some_top_p = bool((self.top_p < 1).any())
        self._key, self._ahead, self._keys = row_key(self.seed, self.sample), AHEAD, ()
        filtered = (self.top_k > 0) | (self.top_p < 1)
        # a GPU sorts everything at once, where looking at the few would have to wait for an answer
        on_cpu = self.top_k.device.type == "cpu"
        few = (self.top_k > 0) & (self.top_k < FEW) & on_cpu
        drawn = ~self.greedy
        beyond = torch.zeros_like(drawn) if self.filters is None else self.filters.on
        groups = (
            (self.greedy, take_likeliest),
            (drawn & ~filtered & ~beyond, draw_plain),
            (drawn & (beyond & (not on_cpu) | filtered & ~few & ~beyond), draw_sorted),
            (drawn & few & ~beyond, draw_few),
            (drawn & beyond & on_cpu, draw_few_filtered),
        )
        self.ways = [(way, index) for group, way in groups if len(index := group.nonzero()[:, 0])]
        self._usual = [way for way, _ in self.ways] == [draw_few]

    @property
    def keys(self) -> tuple[Tensor, Tensor]:
        """The noise's `place_keys` [B] at the rows' positions, computed for many positions at once."""
        if self._ahead == AHEAD:
            later = torch.arange(AHEAD, device=self.position.device)[:, None]
            self._ahead, self._keys = 0, place_keys(self._key, self.position + later)
        return self._keys[0][self._ahead], self._keys[1][self._ahead]

    @cached_property
    def needed(self) -> np.ndarray:
        """How many of their likeliest tokens the rows are drawn by, int64 [B]; on a CPU."""
        return torch.where((self.top_k > 0) & (self.top_k < FEW), self.top_k, FEW).cpu().numpy()

    @property
    def usual(self) -> bool:
        """Whether all rows are drawn among their likeliest tokens, and nothing acts on single ones."""
        return self._usual and self.as_they_are

    @cached_property
    def given(self) -> tuple[np.ndarray, ...]:
        """What `draw` is given of rows on a CPU."""
        return tuple(part.numpy() for part in (self.divisor[:, 0], self.top_k, self.top_p))

    @cached_property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What `draw_filtered` is given of rows on a CPU."""
        more = (self.filters.top_n_sigma, self.filters.least, self.filters.xtc_probability, self.filters.xtc_threshold)
        return *self.given, *(part.numpy() for part in more)

    @cached_property
    def picked(self) -> list[tuple]:
        """The ways, each with the rows that it draws and their options, which go on with these."""
        return [(way, index, self.pick(index)) for way, index in self.ways]

    @property
    def some_early(self) -> bool:
        """Whether any row must not end yet; counted on the host, so that nothing waits for a device."""
        return self._early > 0

    @property
    def some_forbidden(self) -> bool:
        """Whether there is a token that must not stand here in any row."""
        return self.some_early or bool(self.blocked)

    @property
    def as_they_are(self) -> bool:
        """Whether the logits' own order is the order in which tokens are filtered, for all rows."""
        return self.seen is None and self.pressures is None and not self.some_forbidden

    def advance(self, ids: Tensor) -> None:
        """Every row has written one more token, `ids` [B]."""
        self.position += 1
        self._early -= 1
        self._ahead += self._ahead < AHEAD
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)
        for _, index, some in self.__dict__.get("picked", ()):  # only where it was asked for
            if some is not self:
                some.advance(ids[index])

    def pick(self, index: Tensor) -> "RowOptions":
        """Some of the rows, without what acts on their scores; all of them are given back as they are."""
        if len(index) == len(self.seed):
            return self
        parts = (self.temperature, self.top_k, self.top_p, self.penalty, self.seed, self.sample, self.position)
        filters = None if self.filters is None else self.filters.pick(index)
        return RowOptions(*(part[index] for part in parts), None, filters=filters)


@dataclass
class Choice:
    """What was chosen for each row: `ids` and `sampled_logprob`; the last token kept: `threshold`, its score, and `last`,
    its id; `norm`, the log-sum-exp of the scaled scores of those kept; and where XTC may have left out some the first one
    kept: `ceiling`, its score, and `head`, its id. All [B]. `cut`: which of the tokens shown were cut, bool [B, K].
    """

    ids: Tensor
    sampled_logprob: Tensor
    threshold: Tensor
    last: Tensor
    norm: Tensor
    ceiling: Tensor | None = None
    head: Tensor | None = None
    cut: Tensor | None = None

    def cuts(self, scores: Tensor, ids: Tensor) -> Tensor:
        """Whether the filters cut tokens `ids` [B, K] with these scores [B, K]."""
        threshold, last = self.threshold[:, None], self.last[:, None]
        below = (scores < threshold) | (scores == threshold) & (ids > last) | scores.isneginf()
        if self.ceiling is None:
            return below
        ceiling, head = self.ceiling[:, None], self.head[:, None]
        return below | (scores > ceiling) | (scores == ceiling) & (ids < head)


def penalise(logits: Tensor, penalty: Tensor, seen: Tensor | None) -> Tensor:
    """Make seen tokens less likely; logits and `seen` are [B, N], `penalty` [B]."""
    if seen is None:
        return logits
    return torch.where(seen, penalised(logits, penalty[:, None], torch.where), logits)


def without_forbidden(scores: Tensor, rows: RowOptions) -> Tensor:
    """Scores [B, V], -inf for tokens that must not stand here."""
    if rows.blocked:
        scores = scores.clone()
        for row, ids in rows.blocked:
            scores[row, ids] = -torch.inf
    if not rows.some_early:
        return scores
    early = (rows.position < rows.ends_from)[:, None]
    ends = rows.ends[None].expand(len(scores), -1)
    return scores.scatter(1, ends, scores.gather(1, ends).masked_fill(early, -torch.inf))


def choose(logits: Tensor, rows: RowOptions, top: Top | None = None, shown: Tensor | None = None) -> Choice:
    """Choose the next token of every row from logits [B, V] float32, whose `top_few` may be known already.

    A row's choice depends on that row alone. The choice tells which of the tokens `shown` [B, K] were cut; by default
    the alternatives that a record holds, where `top` is known.
    """
    if shown is None and top is not None:
        shown = top.ids[:, :ALTERNATIVES]
    scores = penalise(logits, rows.penalty, rows.seen)
    if rows.pressures is None:
        return choose_among(without_forbidden(scores, rows), rows, top if rows.as_they_are else None, shown)
    pressed = Pressed(scores, rows.pressures)
    if top is not None and rows.seen is None and not rows.some_forbidden:
        top = top_few_again(pressed.scores, pressed.places, pressed.before, top, rows.needed)
    else:
        top = None
    choice = choose_among(without_forbidden(pressed.scores, rows), rows, top, shown)
    pressed.undo()
    return choice


def choose_among(scores: Tensor, rows: RowOptions, top: Top | None, shown: Tensor | None) -> Choice:
    """Choose by scores [B, V], to which all was done that acts on single tokens; `top` is theirs."""
    top = top or top_few(scores)
    if len(rows.ways) == 1:
        drawn = rows.ways[0][0](scores, top, rows)
    else:
        ids, values = top.ids[:, 0], top.values[:, 0]
        drawn = tuple(torch.empty_like(part) for part in (ids, values, ids, values))
        if rows.filters is not None:
            drawn += (torch.full_like(values, torch.inf), torch.zeros_like(ids))
        for way, index, some in rows.picked:
            found = way(scores[index], top.pick(index), some)
            for part, one in zip(drawn, found, strict=False):  # most ways leave out none of the first
                part[index] = one
    ids, *ends = drawn
    sampled_logprob = scores.gather(1, ids[:, None])[:, 0] / rows.divisor[:, 0] - ends[2]
    choice = Choice(ids, sampled_logprob, *ends)
    if shown is not None:
        choice.cut = choice.cuts(scores.gather(1, shown), shown)
    return choice
