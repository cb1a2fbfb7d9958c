"""What a sheet begins with that goes on from a run of before: black what a person typed, red what models wrote.

The page that shows it and the request that makes the sheet ask here alike, so that both have the same text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise, zip_longest

from generate import ModelFolder, RunLog, Vocabulary
from webapp.runs.tables import Run
from webapp.runs.typed import parts_of
from webapp.sheets.spans import PROMPT, Spans, Typed, Written, normal


@dataclass(frozen=True)
class Begun:
    """A run's text, with the first `seen` tokens of its sample (None: all), and what became of its special tokens.

    `named`: those that a person put there are in the black text by their names. `nameless`: so many could not be named and
    are left out. `unseen`: so many stand among the red ones.
    """

    spans: Spans
    seen: int | None
    named: bool
    nameless: int
    unseen: int


def begun_with(
    run: Run,
    log: RunLog,
    number: int | None,
    seen: int | None,
    text_from: int,
    vocabulary: Vocabulary,
    folder: ModelFolder | None,
) -> Begun:
    """A run's prompt, and sample `number` if one is named, of one that is being written its first `seen` tokens, or all there
    are now.

    `text_from` is the place of the prompt's first token that somebody wrote; `folder` is the model with the run's
    vocabulary, None where it is not here, and with it what special tokens are called.
    """
    ids = log.prompt["id"].tolist()
    turns = [(max(start, text_from), end) for start, end in pairwise([0, *accumulate(run.authors)])]
    if len(turns) % 2 == 0:
        turns.append((len(ids), len(ids)))  # the person's last, who typed nothing
    black, red = ([ids[start:end] for start, end in turns[first::2]] for first in (0, 1))
    special = count_special(chain(*black), vocabulary)
    texts = typed_parts(run, log, folder)
    named = bool(special) and folder is not None
    nameless = 0 if named or texts is not None else special
    if texts is None:
        spell = vocabulary.bytes_of if folder is None else folder.tokenizer.spell
        texts = [spell(turn).decode("utf-8", "replace") for turn in black]
    spans = [Typed(texts[0])]
    for (start, end), text in zip_longest(turns[1::2], texts[1:], fillvalue=""):
        spans += [Written(run.id, PROMPT, start, end), Typed(text)]
    unseen = count_special(chain(*red), vocabulary)
    if number is not None:
        seen = as_far_as_shown(log, number) if seen is None else seen
        spans.append(Written(run.id, number, 0, seen))
        unseen += special_within(log.samples[number].read(0, seen)["id"].tolist(), vocabulary)
    return Begun(normal(spans), seen, named, nameless, unseen)


def as_far_as_shown(log: RunLog, number: int) -> int | None:
    """How many tokens of a sample a reader may have; None once it is over."""
    with log.changed:
        sample = log.samples[number]
        return None if sample.finish_reason else sample.released


def count_special(ids: Sequence[int] | Iterator[int], vocabulary: Vocabulary) -> int:
    """How many of some tokens are special."""
    return sum(index in vocabulary.special for index in ids)


def special_within(ids: Sequence[int], vocabulary: Vocabulary) -> int:
    """The same, without those that end a text, which say nothing in a sheet."""
    end = max((n for n, index in enumerate(ids, 1) if vocabulary.tokens[index]), default=0)
    return count_special(ids[:end], vocabulary)


def typed_parts(run: Run, log: RunLog, folder: ModelFolder | None) -> list[str] | None:
    """The black stretches of a run's prompt as they were typed, by its turns; None where it is not stored so, or nobody can
    tell whose what is."""
    if run.typed is None or (folder is None and len(run.authors) > 1):
        return None
    parts = parts_of(run.typed, log.prompt["id"].tolist(), run.authors, folder)
    return parts and parts[::2]
