"""How a run follows from another: joined by tokens, never by tokenising again what was already tokens.

What is known of a token (its probability, its alternatives) goes with it, so that nothing that was seen once is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from generate import ModelFolder, Refusal, RunLog, Vocabulary, known, unknown_records
from webapp.runs.kinds import Relation
from webapp.runs.probabilities import as_chosen
from webapp.runs.tables import Run
from webapp.runs.typed import as_typed, before, gone_on, without_halves


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a run starts from: records of its tokens since the root, whose they are, in turns (the person's first), and
    which tokens were blocked at which of their places. `typed` is the text as a person typed it, where the vocabulary is one
    whose tokens need not say all of it."""

    records: np.ndarray
    authors: tuple[int, ...]
    relation: Relation | None = None
    parent: Run | None = None
    parent_sample: int | None = None
    first_sample: int = 0
    blocked: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    typed: str | None = None

    def columns(self) -> dict:
        """What a run's row says of where it starts, by the names of its columns."""
        return {
            "prompt": self.records.tobytes(),
            "typed": self.typed,
            "blocked": dict(self.blocked) or None,
            "authors": list(self.authors),
            "first_sample": self.first_sample,
            "relation": self.relation,
            "parent_id": self.parent.id if self.parent else None,
            "parent_sample": self.parent_sample,
        }

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple(self.records["id"].tolist())


def fresh(folder: ModelFolder, text: str, parse_special: bool = False) -> Beginning:
    """A text that a person typed, of which a model knows nothing yet.

    `parse_special`: whether the names of special tokens in it are those tokens.
    """
    ids = folder.encode_prompt(text, parse_special)
    return Beginning(unknown_records(ids, folder.config.vocab_size), (len(ids),), typed=as_typed(text, folder))


def beside(run: Run, records: np.ndarray) -> Beginning:
    """The same beginning as a run's, for another model; `records` is what is known of its tokens."""
    return Beginning(records, tuple(run.authors), Relation.BESIDE, run, None, run.first_sample, typed=run.typed)


def retry(parent: Run, log: RunLog) -> Beginning:
    """The same prompt again (the caller draws a new seed)."""
    whose, number = tuple(parent.authors), parent.parent_sample
    return Beginning(log.prompt, whose, Relation.RETRY, parent, number, blocked=log.blocked, typed=parent.typed)


def continue_run(parent: Run, log: RunLog, number: int, vocabulary: Vocabulary) -> Beginning:
    """Sample `number` and on: the child says what a longer run would have said."""
    records, authors = joined(parent, log, number)
    blocked, first = log.blocked_before(number, len(records)), parent.first_sample + number
    typed = gone_on(parent.typed, records["id"][len(log.prompt) :].tolist(), vocabulary)
    return Beginning(records, authors, Relation.CONTINUE, parent, number, first, blocked, typed)


def fork(parent: Run, log: RunLog, number: int | None, place: int, token: int | None, folder: ModelFolder) -> Beginning:
    """The text up to its token `place`, then `token`, one of those the model thought of there, or nothing.

    `place` counts from the first token of the prompt (`number` None), or from the first of sample `number`. Raises
    Refusal for a place that is not there, or a token that is not among its alternatives.
    """
    records, authors = joined(parent, log, number)
    start = 0 if number is None else len(log.prompt)
    if not (0 <= place < len(records) - start):
        raise Refusal(
            "place must be from 0 to {most}, not {place}.", "place", most=len(records) - start - 1, place=place
        )
    kept, here, tokenizer = records[: start + place], records[start + place], folder.tokenizer
    blocked = log.blocked_before(number, len(kept))
    typed = before(parent.typed, log.prompt_ids, parent.authors, len(kept), folder)
    typed = gone_on(typed, kept["id"][len(log.prompt) :].tolist(), tokenizer.vocabulary)
    if token is None:
        if len(kept):
            whose = turns(authors, len(kept))
            return Beginning(kept, whose, Relation.FORK, parent, number, blocked=blocked, typed=typed)
        return Beginning(fresh(folder, "").records, (1,), Relation.FORK, parent, number)
    if token != here["id"] and token not in here["alt_ids"][known(here, "alt_logprobs")]:
        raise Refusal("token must be one of the alternatives that are shown there, not {token}.", "token", token=token)
    chosen = as_chosen(here, token, parent.options, kept["id"], tokenizer.vocabulary)
    whose, typed = add_turn(turns(authors, len(kept)), 1, True), gone_on(typed, [token], tokenizer.vocabulary)
    return Beginning(np.append(kept, chosen), whose, Relation.FORK, parent, number, blocked=blocked, typed=typed)


def edit(
    parent: Run, log: RunLog, number: int | None, text: str, folder: ModelFolder, parse_special: bool = False
) -> Beginning:
    """A changed text: tokens before and after the change stay what they are and whose they are, the rest is a person's.

    What the model thought of the tokens after it is not known any more, as they follow another text. `number` is the
    sample whose text was edited along with the prompt, or None for the prompt alone. With `parse_special`
    the text names special tokens, those that were in the run already included.
    """
    records, authors = joined(parent, log, number)
    data, tokenizer = without_halves(text).encode(), folder.tokenizer
    ids = records["id"].tolist()
    tokens = [tokenizer.spelled(i) if parse_special else tokenizer.vocabulary.tokens[i] for i in ids]
    if ids and ids[0] in tokenizer.vocabulary.special and not data.startswith(tokens[0]):
        tokens[0] = b""  # the end token that an empty prompt starts from is not in its text
    names = tuple(name.encode() for name in tokenizer.special_names.values()) if parse_special else ()
    kept, place = common_tokens(tokens, data, names)
    end = max((n for n, token in enumerate(tokens, 1) if token), default=0)  # an end token behind the text is not kept
    later, size = common_tail(tokens[kept:end], data[place:], names)
    if not kept and not data[: len(data) - size].strip():
        later = size = 0  # a text that begins in its middle begins as any that is typed
    rest, within = data[place : len(data) - size].decode(), place > 0 and tokens[kept - 1] not in names
    new = tokenizer.encode(rest, within, parse_special) if kept else folder.encode_prompt(rest, parse_special)
    if not kept and not rest:
        return Beginning(fresh(folder, "").records, (1,), Relation.EDIT, parent, number)
    added = unknown_records([*new, *ids[end - later : end]], folder.config.vocab_size)
    whose = add_turn(turns(authors, kept), len(new), False)
    for count, by_model in last_turns(turns(authors, end), later):
        whose = add_turn(whose, count, by_model)
    whole, blocked = np.concatenate((records[:kept], added)), log.blocked_before(number, kept)
    return Beginning(whole, whose, Relation.EDIT, parent, number, blocked=blocked, typed=as_typed(text, folder))


def joined(parent: Run, log: RunLog, number: int | None) -> tuple[np.ndarray, tuple[int, ...]]:
    """Prompt and one sample (or none) as one list of records, with its authors; raises Refusal for a wrong number."""
    if number is None:
        return log.prompt, tuple(parent.authors)
    if not 0 <= number < len(log.samples):
        raise Refusal(
            "sample must be from 0 to {most}, not {number}.", "sample", most=len(log.samples) - 1, number=number
        )
    written = log.samples[number].read()
    return np.concatenate((log.prompt, written)), add_turn(tuple(parent.authors), len(written), True)


def common_tokens(tokens: Sequence[bytes], data: bytes, names: tuple[bytes, ...] = ()) -> tuple[int, int]:
    r"""How many leading tokens the edited text keeps, and how many of its bytes they are: those before the changed word.

    GPT-2 cuts text into tokens word by word, a word with the space before it; so the kept tokens must be followed by
    white space or by nothing, or a part of a word would be tokenised by itself. A word also ends at a special token;
    `names` are those that special tokens have in `data`, if any. What a model wrote may end its lines in \r\n or \r,
    where `data` has \n.
    """
    kept = place = 0
    best, half = (0, 0), False  # half: the last byte was a \r, whose \n may follow
    for token in tokens:
        if not token and place and place < len(data):
            break  # an end token in front of new text would make the model forget what was before it
        shown = token[half and token.startswith(b"\n") :].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not data.startswith(shown, place):
            break
        kept, place, half = kept + 1, place + len(shown), token.endswith(b"\r") or (half and not token)
        whole = token in names or data.startswith(names, place)
        joins = half and data.startswith(b"\n", place)  # a second line break would become part of the first
        cut_here = whole or place == len(data) or (data[place : place + 1].isspace() and not joins)
        if place and cut_here:  # else it is another text from its first word on, which begins as any that is typed
            best = (kept, place)
    return best


def common_tail(tokens: Sequence[bytes], data: bytes, names: tuple[bytes, ...] = ()) -> tuple[int, int]:
    """How many of the last tokens the edited text keeps, and how many of its bytes they are: whole words with the space
    before them, as in `common_tokens`."""
    count = size = 0
    best = 0, 0
    for token in reversed(tokens):
        if not token or b"\r" in token or not data.endswith(token, 0, len(data) - size):
            break
        count, size = count + 1, size + len(token)
        if token[:1].isspace() or token in names:
            best = count, size
    return best


def last_turns(authors: tuple[int, ...], kept: int) -> list[tuple[int, bool]]:
    """The turns of the last `kept` tokens: how many they are, and whether they are the model's."""
    found, left = [], kept
    for number in range(len(authors) - 1, -1, -1):
        found.append((min(authors[number], left), number % 2 == 1))
        left -= found[-1][0]
    return found[::-1]


def turns(authors: tuple[int, ...], kept: int) -> tuple[int, ...]:
    """The turns of the first `kept` tokens."""
    found, left = [], kept
    for count in authors:
        found.append(min(count, left))
        left -= found[-1]
    while len(found) > 1 and found[-1] == 0:
        found.pop()
    return tuple(found)


def add_turn(authors: tuple[int, ...], count: int, by_model: bool) -> tuple[int, ...]:
    """The turns with `count` more tokens by the model or by the person."""
    found = list(authors)
    if count and len(found) % 2 == (0 if not by_model else 1):
        found.append(count)
    elif count:
        found[-1] += count
    return tuple(found)
