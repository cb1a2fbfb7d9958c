"""How surprising a model found a text, in one sentence."""

from unicodedata import east_asian_width

import numpy as np

from generate import Vocabulary, counted, gettext, known, perplexity, split_half_character
from webapp.runs.transcript import Transcript

LONGEST = 24  # characters of a word; what is longer stands in a script that does not part words


def verdict(view: Transcript, model: str) -> str:
    """The sentences under a text that was read whole: `Read: 412 tokens. To storyteller each was on average a choice among 37
    (perplexity 36.8, 1.90 bits per byte); the least expected word was “giant”.`

    A token without a prediction (the first) counts neither with its probability nor with its bytes.
    """
    records = view.log.prompt
    score = perplexity(records, view.vocabulary)
    read = gettext("Read: {tokens}.", tokens=counted(len(records)))
    if score.perplexity is None:
        nothing = gettext("{read} Nothing came before it that could predict it.", read=read)
        return nothing if len(records) == 1 else read
    bits = score.bits_per_byte
    bits = "" if bits is None else gettext(", {bits:.2f} bits per byte", bits=bits)
    of = f"{score.perplexity:.1f}" if score.perplexity < 9.95 else f"{score.perplexity:,.0f}"
    of = of if score.perplexity < 1e7 else gettext("more than ten million")
    numbers = gettext(
        "To {model} each was on average a choice among {of} (perplexity {perplexity}{bits})",
        model=model,
        of=of,
        perplexity=rounded(score.perplexity),
        bits=bits,
    )
    least = least_expected(records, view.vocabulary)
    if least:
        return gettext("{read} {numbers}; the least expected {least}.", read=read, numbers=numbers, least=least)
    return gettext("{read} {numbers}.", read=read, numbers=numbers)


def rounded(perplexity: float) -> str:
    """A perplexity as a person reads it: three digits, or all before the point."""
    if perplexity >= 1e7:
        return f"{perplexity:.1e}"
    return f"{perplexity:,.0f}" if perplexity >= 99.95 else f"{perplexity:#.3g}"


def least_expected(records: np.ndarray, vocabulary: Vocabulary) -> str:
    """What follows "the least expected": the word, the sign or the break that holds the token with the lowest probability.

    Special tokens are passed over. "" where no token with a text was predicted, or where it cannot be printed.
    """
    ids = records["id"].tolist()
    judged = known(records, "logprob") & ~np.isin(records["id"], sorted(vocabulary.special))
    if not judged.any():
        return ""
    place = int(np.where(judged, records["logprob"], np.inf).argmin())
    start, end = (characters(vocabulary.bytes_of(ids[:count])) for count in (place, place + 1))
    text = vocabulary.bytes_of(ids).decode("utf-8", "replace")
    found = text[start : max(end, start + 1)]
    if not found:
        return ""
    if found.isspace():
        return gettext("was a line break") if "\n" in found else gettext("was a space")
    start += len(found) - len(found.lstrip())
    found = found.strip()
    if not any(map(str.isalnum, found)):
        return gettext("sign was “{sign}”", sign=found) if found.isprintable() else ""
    word = word_around(text, start, start + len(found))
    return gettext("word was “{word}”", word=word) if word.isprintable() else ""


def characters(data: bytes) -> int:
    """How many whole characters the bytes are."""
    return len(split_half_character(data)[0].decode("utf-8", "replace"))


def word_around(text: str, start: int, end: int) -> str:
    """The word that text[start:end] stands in; that itself where the script does not part words."""
    first, last = start, end
    while first and is_inside(text[first - 1]):
        first -= 1
    while last < len(text) and is_inside(text[last]):
        last += 1
    word = text[first:last].strip("'’-")
    return word if len(word) <= LONGEST else text[start:end]


def is_inside(character: str) -> bool:
    """Whether a word goes on with this character."""
    return (character.isalnum() and east_asian_width(character) not in "WF") or character in "'’-"
