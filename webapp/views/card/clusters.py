"""From characters to clusters: what of a text can be seen, what is drawn as one, and where a line may end between them."""

import re
import unicodedata

from webapp.views.card.typefaces import BOX

LONGEST = 28  # characters of a word; a longer one is cut where the line ends
THAI = "\u0e01", "\u0e46"  # letters and vowels, which stand without spaces between words
CLOSING = frozenset("ะาำๅๆฯ。，、！？；：」』）】》〉”’…—～·)]},.!?;:%")  # begin no line
OPENING = frozenset("เแโใไ「『（【《〈“‘([{")  # end no line
UNSEEN = "\0-\b\x0e-\x1f\x7f-\x9f\xad\u180e\u200b\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
TIDY = (  # from pattern to replacement, in order
    ("\r\n?|[\v\f\x85\u2028\u2029]", "\n"),
    (f"[{UNSEEN}]", ""),
    ("[\ud800-\udfff]", BOX),
    ("[\t\u3000]", "    "),
    ("[\u2007\u202f]", "\xa0"),
    (r"[^\S\n\xa0]", " "),
    ("\ufdfd", "بسم الله الرحمن الرحيم"),  # a whole phrase in one glyph, too intricate for FreeType
    (" {9,}", " " * 8),
    (" *\n *\n\\s*\n", "\n\n"),
)


def tidy(text: str) -> str:
    """Text of characters that can be seen, with newlines and spaces between them."""
    for pattern, replacement in TIDY:
        text = re.sub(pattern, replacement, text)
    return unicodedata.normalize("NFC", text)


def clusters(text: str) -> list[str]:
    """Characters with the marks on them; conjuncts; emoji joined by ZWJ, with skin tones, flags. A dozen codes at the most."""
    found: list[str] = []
    for char in text:
        if char >= "\u0300" and found and found[-1] != "\n" and belongs(char, found[-1]):
            found[-1] = (found[-1] + char)[:12]
        else:
            found.append(char)
    return found


def belongs(char: str, before: str) -> bool:
    """Whether a character is drawn on, or as one with, the cluster before it."""
    if "\U0001f1e6" <= char <= "\U0001f1ff":  # two of these are a flag
        return len(before) == 1 and "\U0001f1e6" <= before <= "\U0001f1ff"
    tone_or_tag = "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f"
    joined = char in "\u200c\u200d" or (before[-1] == "\u200d" and char > "\u2000")
    jamo = "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7fb"  # a vowel or a final of Hangul
    return tone_or_tag or joined or jamo or unicodedata.category(char)[0] == "M" or conjunct(char, before)


def conjunct(char: str, before: str) -> bool:
    """Whether a virama (of combining class 9) binds a consonant to the cluster before it, as UAX #29 has it (GB9c)."""
    bound = before.rstrip("\u200d")
    return unicodedata.combining(bound[-1:] or " ") == 9 and len(before) < 12 and unicodedata.category(char) == "Lo"


def may_part(before: str, char: str, length: int) -> bool:
    """Whether a word ends between two characters; `char` would be its `length`th."""
    if "\n" in (before, char) or (before == " ") != (char == " "):
        return True
    if char == " " or before in OPENING or char in CLOSING:
        return False
    if max(before, char) >= THAI[0] and unspaced(before, char):
        return True
    return before in "-–—/" and char.isalpha() and length > 2


def unspaced(before: str, char: str) -> bool:
    """Whether two characters stand side by side without a space even where one word ends and another begins."""
    if THAI[0] <= before <= THAI[1] and THAI[0] <= char <= THAI[1]:
        return True
    return char > "\U0001f000" or any(unicodedata.east_asian_width(each) in "WF" for each in (before, char))
