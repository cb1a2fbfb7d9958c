"""What a model will stumble over, said before it writes anything: a script that its vocabulary has to spell, and whether
its words bring the space before them along.

Both follow from the vocabulary alone. GPT-2's own needs 1.2 to 2.9 tokens a letter for Cyrillic, Greek, Arabic, Hebrew,
Hindi, Thai, kana, Hangul and Chinese, the storyteller's 2.0 to 3.3; one that was made for a script needs 1.0 at the most,
as one for Chinese does that has each character, and mostly half of it. Where a text ends in a space, the word that really
came next costs the storyteller 13.9 nats instead of 3.4 (70 places in tales that it never saw).
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from generate import ModelFolder, Refusal, gettext
from webapp.sheets.spans import Spans, Typed
from webapp.views.model_facts import joined, languages_known

TAIL = 400  # characters at a text's end that are looked at: what the model goes on from
LETTERS = 3  # of another script, from which on something is said of it
SPELLED = 1.1  # tokens a letter, from which on a vocabulary spells a script instead of knowing it
NAMED = 3  # languages at the most that a hint names
LATIN = {"LATIN", "MODIFIER", "FEMININE", "MASCULINE"}  # how Unicode's names of its letters begin
WORD = re.compile(rb"( ?)[A-Za-z]{2,}")


def stumble(spans: Spans, folder: ModelFolder | None) -> str:
    """One sentence where a text ends in something typed that `folder`'s model will stumble over, else ""."""
    if folder is None or not spans or not isinstance(spans[-1], Typed):
        return ""
    return script_hint(spans[-1].text, folder)


def script_hint(text: str, folder: ModelFolder) -> str:
    """One sentence where a text ends in a script that a model's vocabulary hardly knows, else ""."""
    words = [
        word for word in words_of_other_scripts(text[-TAIL:]) if len(word.strip()) > 1
    ]  # a single letter is a sign
    letters = sum(len(word.strip()) for word in words)
    if letters < LETTERS:
        return ""
    try:
        tokens = sum(tokens_of(word, folder) for word in words)
    except Refusal:
        return gettext(
            "{model} has no tokens for some of these letters and cannot go on from them; take them out first.",
            model=folder.name,
        )
    if tokens <= SPELLED * letters:
        return ""
    known = languages_known(folder)
    if not 0 < len(known) <= NAMED:
        return gettext("{model} hardly knows this script; it will stumble here.", model=folder.name)
    return gettext(
        "{model} was made for {languages} and hardly knows this script; it will stumble here.",
        model=folder.name,
        languages=joined(known),
    )


def words_of_other_scripts(text: str) -> Iterator[str]:
    """The stretches of letters that are not Latin, each with the space before it, if one is there."""
    if text.isascii():
        return
    word, before = "", ""
    for character in f"{text}.":
        kind = unicodedata.category(character)[0]
        if (kind == "M" and word) or (kind == "L" and not is_latin(character)):  # a sign goes with the letter before it
            word += character
            continue
        if word:
            yield before + word
        word, before = "", " " if character == " " else ""


def is_latin(letter: str) -> bool:
    """Whether it is one of the Latin script, or of none."""
    return letter.isascii() or unicodedata.name(letter, "").split(" ", 1)[0] in LATIN


def tokens_of(word: str, folder: ModelFolder) -> int:
    """How many tokens some letters are; a letter that the vocabulary has not, and reads as [UNK], counts for two."""
    unknown = folder.tokenizer.unknown_id
    if unknown is None:
        return len(folder.tokenizer.encode(word, within=True))
    return sum(2 * (end - start) if index == unknown else 1 for index, start, end in folder.tokenizer.places(word))


@lru_cache(64)
def brings_spaces(folder: ModelFolder) -> bool:
    """Whether most words of a vocabulary begin with the space before them, so that none is left for a space of its own.

    BERT's reads no space at the end at all.
    """
    if not folder.tokenizer.is_lossless:
        return False
    words = [found for token in folder.tokenizer.vocabulary.tokens if (found := WORD.fullmatch(token))]
    return 2 * sum(word[1] == b" " for word in words) > len(words)
