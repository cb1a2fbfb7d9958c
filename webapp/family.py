"""How a run follows from another: joined by token ids, never by tokenising again what was already tokens."""

from dataclasses import dataclass

from generate import ModelFolder, Refusal, RunLog, Vocabulary
from webapp.database import Run


@dataclass(frozen=True)
class Beginning:
    """What a run starts from: token ids since the root, and whose they are, in turns (the person's first)."""

    ids: tuple[int, ...]
    authors: tuple[int, ...]
    relation: str | None = None
    parent: Run | None = None
    parent_sample: int | None = None
    first_sample: int = 0


def fresh(folder: ModelFolder, text: str) -> Beginning:
    ids = tuple(folder.encode_prompt(text))
    return Beginning(ids, (len(ids),))


def retry(parent: Run, log: RunLog) -> Beginning:
    """The same prompt again (the caller draws a new seed)."""
    return Beginning(ids_of(log), tuple(parent.authors), "retry", parent, parent.parent_sample)


def go_on(parent: Run, log: RunLog, number: int) -> Beginning:
    """Sample `number` and on: the child says what a longer run would have said."""
    ids, authors = joined(parent, log, number)
    return Beginning(ids, authors, "continue", parent, number, parent.first_sample + number)


def edit(parent: Run, log: RunLog, number: int | None, text: str, folder: ModelFolder) -> Beginning:
    """A changed text: tokens before the change stay as they are, the rest is tokenised.

    `number` is the sample whose text was edited along with the prompt, or None for the prompt alone.
    """
    ids, authors = joined(parent, log, number) if number is not None else (ids_of(log), tuple(parent.authors))
    data = text.encode("utf-8", "replace")
    kept = common_tokens(ids, data, folder.tokenizer.vocabulary)
    rest = data[len(folder.tokenizer.vocabulary.bytes_of(ids[:kept])) :].decode()
    new = tuple(folder.tokenizer.encode(rest)) if rest else ()
    if not kept and not new:
        return Beginning(tuple(folder.encode_prompt("")), (1,), "edit", parent, number)
    return Beginning(ids[:kept] + new, mark(authors, kept, len(new)), "edit", parent, number)


def ids_of(log: RunLog) -> tuple[int, ...]:
    return tuple(log.prompt["id"].tolist())


def joined(parent: Run, log: RunLog, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Prompt and one sample as one list of ids, with its authors."""
    if not 0 <= number < len(log.samples):
        raise Refusal(f"sample must be from 0 to {len(log.samples) - 1}, not {number}.", "sample")
    written = tuple(log.samples[number].read()["id"].tolist())
    turns = list(parent.authors)
    if len(turns) % 2:
        turns.append(0)
    turns[-1] += len(written)
    return ids_of(log) + written, tuple(turns)


def common_tokens(ids: tuple[int, ...], data: bytes, vocabulary: Vocabulary) -> int:
    """How many leading tokens the edited text keeps: those before the change, and before the word it stands in.

    GPT-2 cuts text into tokens word by word, a word with the space before it; so the kept tokens must be followed by
    white space or by nothing, lest the change glue half a word to a token of its own.
    """
    kept = place = best = 0
    for index in ids:
        token = vocabulary.tokens[index]
        if not token and place and place < len(data):
            break  # an end token in front of new text would make the model forget what was before it
        if data[place : place + len(token)] != token:
            break
        kept, place = kept + 1, place + len(token)
        leading = not token and not place  # the end token that an empty prompt starts from
        if leading or place == len(data) or data[place : place + 1].isspace():
            best = kept
    return best


def mark(authors: tuple[int, ...], kept: int, new: int) -> tuple[int, ...]:
    """The turns of the first `kept` tokens, followed by `new` tokens of the person's."""
    turns, left = [], kept
    for count in authors:
        turns.append(min(count, left))
        left -= turns[-1]
    while len(turns) > 1 and turns[-1] == 0:
        turns.pop()
    if len(turns) % 2:
        turns[-1] += new
    elif new:
        turns.append(new)
    return tuple(turns)
