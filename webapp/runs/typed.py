"""A prompt as it was typed, where its tokens need not say all of it: BERT's vocabulary keeps no line breaks and few spaces."""

from collections.abc import Sequence

from generate import ModelFolder, Refusal, Vocabulary


def as_typed(text: str, folder: ModelFolder) -> str | None:
    """The text, if a model's tokens need not say all of it and so it is to be stored; half a surrogate pair, which no
    database takes, as U+FFFD."""
    return None if folder.tokenizer.is_lossless else without_halves(text).replace("\0", "\ufffd")


def without_halves(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which is no character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def gone_on(typed: str | None, ids: Sequence[int], vocabulary: Vocabulary) -> str | None:
    """What was typed, and behind it what tokens say; no two spaces where both have one. None where nothing is stored."""
    if typed is None:
        return None
    said = vocabulary.bytes_of(ids).decode("utf-8", "replace")
    return typed + (said.lstrip(" ") if not typed or typed[-1].isspace() else said)


def before(
    typed: str | None, ids: Sequence[int], authors: Sequence[int], place: int, folder: ModelFolder
) -> str | None:
    """What was typed before token `place` of a prompt, the space in front of it included, and what models wrote there.

    `ids` are all of the prompt's tokens, by the turns of `authors`. What cannot be found in the text is as its tokens say
    it. None where nothing is stored.
    """
    if typed is None or place >= len(ids):
        return typed
    parts, vocabulary = parts_of(typed, ids, authors, folder), folder.tokenizer.vocabulary
    if parts is None:
        return gone_on("", ids[:place], vocabulary)
    text, start = "", 0
    for turn, (part, count) in enumerate(zip(parts, authors, strict=True)):
        end = start + count
        if place >= end:
            text += part
        elif turn % 2:
            return gone_on(text, ids[start:place], vocabulary)
        else:
            return text + begun(part, ids[start:end], place - start, folder)
        start = end
    return text


def parts_of(typed: str, ids: Sequence[int], authors: Sequence[int], folder: ModelFolder) -> list[str] | None:
    """A prompt's text by its turns: what models wrote stands in it as its tokens say, the rest is the person's. None where
    it cannot be found."""
    found, rest, start = [], typed, 0
    for turn in range(0, len(authors), 2):
        end = start + authors[turn]
        if turn == len(authors) - 1:
            return [*found, rest]
        said = folder.tokenizer.vocabulary.bytes_of(ids[end : end + authors[turn + 1]]).decode("utf-8", "replace")
        place = written_at(rest, ids[start:end], said, folder)
        if place is None:
            return None
        found += [rest[: place[0]], rest[place[0] : place[1]]]
        rest, start = rest[place[1] :], end + authors[turn + 1]
    return found


def written_at(rest: str, mine: Sequence[int], said: str, folder: ModelFolder) -> tuple[int, int] | None:
    """Where what a model said begins and ends in a text, behind the tokens that a person typed: as its tokens say, or without
    the space that they bring, where one was typed."""
    known = places_in(rest, mine, folder)
    if len(known) < len(mine) - 1:  # of the last one a model may have gone on with the word
        return None
    least = known[-1][1] if known else 0
    for form in (said, said.lstrip(" ")):
        if (at := rest.find(form, least)) >= 0:
            return at, at + len(form)
    return None


def begun(part: str, ids: Sequence[int], place: int, folder: ModelFolder) -> str:
    """What a person typed before token `place` of a turn."""
    known = places_in(part, ids, folder)
    if place < len(known):
        return part[: known[place][0]]
    end = known[-1][1] if known else 0
    return part[:end] + folder.tokenizer.vocabulary.bytes_of(ids[len(known) : place]).decode("utf-8", "replace")


def places_in(text: str, ids: Sequence[int], folder: ModelFolder) -> list[tuple[int, int]]:
    """Where tokens begin and end in a text, as far as the text by itself is cut into the same ones."""
    special = folder.tokenizer.vocabulary.special
    firsts = (0, 1) if ids and ids[0] in special else (0,)
    parses = (False,) if special.isdisjoint(ids) else (False, True)
    return max((read_as(text, ids, folder, first, parse) for first in firsts for parse in parses), key=len)


def read_as(
    text: str, ids: Sequence[int], folder: ModelFolder, first: int, parse_special: bool
) -> list[tuple[int, int]]:
    """The same if the text begins at the token `first`, 1 where one that is not in it stands before a prompt, and if the names
    of special tokens in it are those tokens or plain words, which both may be."""
    found = [(0, 0)] * first
    try:
        told = folder.tokenizer.places(text, parse_special)
    except Refusal:
        return found
    for index, (token, start, end) in zip(ids[first:], told, strict=False):
        if token != index:
            break
        found.append((start, end))
    return found
