"""What runs wrote, as sheets read it: from the live log of a run that is being written here, else from the database."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select, tuple_

from generate import RunLog, RunState, Vocabulary, record_dtype
from webapp.runs.registry import Registry
from webapp.runs.repository import Vocabularies, unpack
from webapp.runs.tables import Block, Run, Sample, db
from webapp.sheets.pieces import Said
from webapp.sheets.spans import PROMPT, Spans, Written

KEPT, FEWEST = (
    500_000,
    200,
)  # tokens in memory, of samples that are over, some 50 MB; a shorter sample counts as so many


@dataclass(frozen=True, eq=False)
class Reading:
    """What a sample says, and the records of its whole tokens; `vocabulary` is the id of its run's, `fingerprint` its model's."""

    said: Said
    records: np.ndarray
    vocabulary: str
    fingerprint: str


NOTHING = Reading(Said(()), np.empty(0, record_dtype(1)), "", "")  # of a run that is gone


class Sources:
    """Reads samples; those that are over are kept in memory."""

    def __init__(self, registry: Registry, vocabularies: Vocabularies):
        self._registry, self._vocabularies = registry, vocabularies
        self._kept: OrderedDict[tuple[str, int], Reading] = OrderedDict()  # those that were read last at the end
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Let nothing in memory tell of runs that are gone."""
        with self._lock:
            self._kept.clear()

    def read(self, *texts: Spans) -> "Found":
        """What the spans of some texts refer to, in a few queries; needs an app context."""
        wanted = {(span.run, span.sample) for text in texts for span in text if isinstance(span, Written)}
        with self._lock:
            found = {name: self._kept[name] for name in wanted & self._kept.keys()}
            for name in found:
                self._kept.move_to_end(name)
        new = self._load(wanted - found.keys())
        if new:
            self._keep({name: reading for name, reading in new.items() if reading.said.done})
        return Found(found | new)

    def _keep(self, readings: dict[tuple[str, int], Reading]) -> None:
        with self._lock:
            self._kept.update(readings)
            size = sum(map(size_of, self._kept.values()))
            while size > KEPT:
                size -= size_of(self._kept.popitem(last=False)[1])

    def _load(self, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Reading]:
        runs = {run for run, _ in wanted}
        if not runs:
            return {}
        # before what is stored: of a run that has no log any more, that is all
        logs = {run: entry.log for run in runs if (entry := self._registry.get(run))}
        columns = (Run.id, Run.state, Run.vocabulary_id, Run.vocab_size, Run.fingerprint)
        facts = {row.id: row for row in db.session.execute(select(*columns).where(Run.id.in_(runs)))}
        found = {}
        samples = {name for name in wanted if name[1] != PROMPT and name[0] in facts}
        live = {name for name in samples if name[0] in logs}
        for run_id, number in live:
            log = logs[run_id]
            with log.changed:
                sample = log.samples[number]
                records, end, done = sample.read(0, sample.released), sample.text_end, sample.finish_reason is not None
            found[run_id, number] = self._reading(facts[run_id], records, end, done)
        stored = samples - live
        ends = {(s.run_id, s.number): s for s in db.session.scalars(select(Sample).where(which(Sample, stored)))}
        blocks: dict[tuple[str, int], list[Block]] = {name: [] for name in ends}
        for block in db.session.scalars(select(Block).where(which(Block, stored)).order_by(Block.start)):
            blocks[block.run_id, block.number].append(block)
        for name, sample in ends.items():
            found[name] = self._stored(facts[name[0]], sample, blocks[name])
        # Last: who sees that a sample has ended asks no more, so all that is known of its prompt by then must be here.
        prompts = {run for run, sample in wanted if sample == PROMPT and run in facts}
        return found | self._prompts(facts, logs, prompts)

    def _prompts(self, facts: dict, logs: dict[str, RunLog], wanted: set[str]) -> dict[tuple[str, int], Reading]:
        found = {}
        for run_id, packed in db.session.execute(select(Run.id, Run.prompt).where(Run.id.in_(wanted))):
            row, log = facts[run_id], logs.get(run_id)
            records = unpack(packed, row.vocab_size) if log is None else log.prompt
            over = log is None and row.state == RunState.DONE  # until then more is learned of its tokens
            tokens = self._vocabularies.find(row.vocabulary_id).tokens
            said = Said([tokens[index] for index in records["id"].tolist()], "", over)
            found[run_id, PROMPT] = Reading(said, records.copy(), row.vocabulary_id, row.fingerprint)
        return found

    def _stored(self, facts, sample: Sample, blocks: list[Block]) -> Reading:
        records = unpack(b"".join(block.tokens for block in blocks), facts.vocab_size)
        done = sample.finish_reason is not None
        shown = records if done or not blocks else records[: blocks[-1].released]
        return self._reading(facts, shown, sample.text_end, done)

    def _reading(self, facts, records: np.ndarray, text_end: int | None, done: bool) -> Reading:
        vocabulary = self._vocabularies.find(facts.vocabulary_id)
        said = said_by(records["id"], vocabulary, text_end, done)
        return Reading(said, records[: len(said.tokens)], facts.vocabulary_id, facts.fingerprint)


def size_of(reading: Reading) -> int:
    """What a reading counts for, in tokens."""
    return max(len(reading.records), FEWEST)


def which(table: type, names: Iterable[tuple[str, int]]):
    """The condition that a row of a table is of one of some samples."""
    return tuple_(table.run_id, table.number).in_(list(names))


def said_by(ids: np.ndarray, vocabulary: Vocabulary, text_end: int | None, done: bool) -> Said:
    """What a sheet may show of some tokens: all that lie before the text's end; special ones at the end say nothing."""
    tokens, room = [], text_end
    for index in ids.tolist():
        token = vocabulary.tokens[index]
        if (room is not None and len(token) > room) or (room == 0 and token):
            return Said(tokens, token[:room].decode("utf-8", "ignore"), done)
        tokens.append(token)
        room = None if room is None else room - len(token)
    while done and tokens and not tokens[-1]:
        tokens.pop()
    return Said(tokens, "", done)


class Found:
    """What was read: the source of some texts' pieces, and the records behind them."""

    def __init__(self, readings: dict[tuple[str, int], Reading]):
        self._readings = readings

    def reading(self, run: str, sample: int) -> Reading:
        """One sample; an empty one where the run is gone."""
        return self._readings.get((run, sample), NOTHING)

    def growing(self, last: Written | None) -> Written | None:
        """A text's last span, if its sample is still being written."""
        return last if last is not None and not self(last.run, last.sample).done else None

    def __call__(self, run: str, sample: int) -> Said:
        """What a sample says, as a `Source` does."""
        return self.reading(run, sample).said
