"""From characters to clusters: what of a text can be seen, what is drawn as one, and where a line may end between them."""

import re
import unicodedata

import regex

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
    """Characters as a reader counts them (grapheme clusters, Unicode's annex 29), each of a dozen codes at the most."""
    return [cluster[:12] for cluster in regex.findall(r"\X", text)]


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
