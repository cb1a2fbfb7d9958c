"""Texts that are read before their sequences can write: prompts, and windows that restart.

So are texts that are only scored, one window after another.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from generate.interface.log import RunLog
from generate.sampling.records import unknown_records
from generate.scheduling.memory import out_of_memory
from generate.scheduling.prefix_cache import PrefixCache
from generate.scheduling.sequence import Sequence
from generate.scheduling.window import as_seen
from generate.transformer.int8.kv_cache import PagedKVCache
from generate.transformer.kv_cache import KVCache
from generate.transformer.prefix import Prefix


@dataclass(eq=False)
class Prefill:
    """A stretch of tokens to read, `shown` from `start` up to `end`. `sequences` wait for it; `later` are those of
    the run not yet let in.

    `shown` is the text `ids` as its window sees it: what is kept in mind stands in the place of tokens left out. When it
    is read, `logits` [1, V] predict the next token. The tokens from index `first` of `shown` on are judged (none where it
    is past the last). `records` are what this reading knows of shown[start : end + 1]. They are no more than that: the
    run's prompt may hold what was known of its tokens before, which some other model may have thought.
    """

    run: RunLog
    sequences: list[Sequence]
    prefix: Prefix
    ids: list[int]
    shown: list[int]
    n_keep: int
    start: int
    end: int
    first: int
    records: np.ndarray
    later: deque[Sequence] = field(default_factory=deque)
    logits: Tensor | None = None

    @property
    def everyone(self) -> list[Sequence]:
        """All who wait for it, let in or not."""
        return [*self.sequences, *self.later]

    @property
    def yields(self) -> bool:
        """Whether those who wait for it are read for only where nobody else is."""
        return self.everyone[0].request.yields

    @property
    def only_scored(self) -> bool:
        """Whether those who wait for it do not write."""
        return bool(self.sequences) and self.sequences[0].request.only_reads

    @property
    def is_read(self) -> bool:
        """Whether it is read, and somebody waits for what follows."""
        return self.logits is not None and bool(self.sequences)

    @property
    def left(self) -> int:
        """Tokens still to be read."""
        return self.end - self.start - self.prefix.length

    @property
    def next(self) -> int:
        """Index in `shown` of the next token to be read."""
        return self.start + self.prefix.length

    @property
    def statistics(self) -> bool:
        """Whether any of its tokens is judged."""
        return self.first < len(self.ids)

    def judged(self, count: int) -> range:
        """Indices of the tokens that are judged by reading `count` more: each tells of the one after it."""
        return range(max(self.next + 1, self.first), min(self.next + 1 + count, len(self.ids)))

    def note(self, place: int, found: np.ndarray) -> None:
        """Take records of the tokens from index `place` of `shown` on. What the run knew already of its prompt stays as it
        was."""
        self.records[place - self.start :][: len(found)] = found
        kept = max(0, self.start + self.n_keep - place)  # so many of them are the beginning of the text
        self.run.learn(place - self.start, found[:kept])
        self.run.learn(place + kept, found[kept:])
        if self.only_scored:  # nothing else will tell that there is more to see
            with self.run.changed:
                self.run.touch()


Part = tuple[Prefill, int]  # a text, and how many of its tokens to read in this step


class Prefills(list[Prefill]):
    """All texts that a batch has to read, the first come first."""

    def __init__(self, cache: KVCache | PagedKVCache, prefix_cache: PrefixCache):
        super().__init__()
        self._cache, self._prefix_cache = cache, prefix_cache

    def begin(
        self,
        run: RunLog,
        sequences: list[Sequence],
        ids: list[int],
        n_keep: int,
        start: int,
        first: int,
        end: int | None = None,
    ) -> Prefill:
        """Begin to read ids[start:end], the first tokens of which are those kept in mind, from as far on as was read
        before; tokens from index `first` on are judged.

        It is not added here.
        """
        end, shown = len(ids) if end is None else end, as_seen(ids, start, n_keep)
        nothing = unknown_records(shown[start : end + 1], self._cache.config.vocab_size)
        new = self._cache.new_prefix(end - start)
        prefill = Prefill(run, sequences, new, ids, shown, n_keep, start, end, first, nothing)
        try:
            records = self._prefix_cache.fill(prefill.prefix, shown[start:end], first - start)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._prefix_cache.drop()
            records, prefill.prefix = None, self._cache.new_prefix(end - start)
        if records is not None:
            prefill.note(first, records[first - start :])
        return prefill

    def begin_again(self, sequence: Sequence, first: int | None = None) -> Prefill:
        """Begin to read what a sequence's window holds of its text, which is judged from index `first` on (by default
        nothing of it). It is not added here."""
        run, ids, n_keep = sequence.run, sequence.ids, sequence.request.n_keep
        return self.begin(run, [sequence], ids, n_keep, sequence.window, len(ids) if first is None else first)

    def with_later(self, run: RunLog) -> Prefill | None:
        """The text of a run of which some samples are not yet let in."""
        return next((prefill for prefill in self if prefill.run is run and prefill.later), None)

    def plan(self, budget: int) -> list[Part]:
        """What to read of which texts in a step that may read so many tokens."""
        parts = []
        for prefill in sorted(self, key=lambda prefill: prefill.yields):
            if prefill.left and budget > 0:
                parts.append((prefill, min(prefill.left, budget)))
                budget -= parts[-1][1]
        return parts

    def known_whole(self, prefill: Prefill) -> None:
        """A text is read, and judged as far as it is to be: keep it for whoever begins with it; of a scored one its last
        window is enough."""
        prefill.run.close_prompt()
        if prefill.end == len(prefill.ids):
            ids, records = prefill.shown[prefill.start :], prefill.records if prefill.statistics else None
            self._prefix_cache.keep(ids, prefill.prefix, records, prefill.first - prefill.start)

    def drop_finished(self) -> None:
        """Forget sequences that have ended, and texts that nobody waits for any more."""
        for prefill in self:
            prefill.sequences[:] = [sequence for sequence in prefill.sequences if not sequence.finished]
            prefill.later = deque(sequence for sequence in prefill.later if not sequence.finished)
        self[:] = [prefill for prefill in self if prefill.sequences or prefill.later]
