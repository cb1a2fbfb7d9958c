"""Where a sentence ends, told by the text up to there alone: nobody knows yet what follows.

A text ends with a sentence where, but for white space, it ends in one of . ! ? … and their like in other scripts, and in the
quotation marks and brackets that close behind it, while no quotation of its paragraph is left open. A full stop by itself
ends none after a digit (3.14), a single letter (J. R., e.g.) but I, and Mr, Mrs and the like. A paragraph's end is a
sentence's too, unless it breaks off in a comma, a colon, a semicolon or a dash.
"""

import re

from generate.text.characters import split_half_character

FAR = 2000  # bytes: a paragraph's beginning that is further back counts as not there
TITLES = "Mr|Mrs|Ms|Dr|St|Messrs|Prof|Rev|Capt|Col|Gen|Lt|Hon|Mme|Mlle"

QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“”", "‘": "’", "«": "»", "「": "」", "『": "』"}  # and what closes each
POINTS = r"[.!?…。！？｡؟।॥]"
CLOSERS = "[\"'”“’»」』)\\]）】》]"
END = re.compile(rf"{POINTS}{CLOSERS}*$")
NO_END = re.compile(rf"(?:\d|(?<![^\W\d_])(?!I)[^\W\d_]|\b(?:{TITLES}))\.$")
PARAGRAPH = re.compile(r"\n\s*\n")
BREAKS_OFF = (",", ":", ";", "-", "–", "—", "，", "：", "；", "、")
LAST = {mark.encode()[-1:] for mark in ".!?…。！？｡؟।॥\"'”“’»」』)]）】》 \t\r\n"}


def could_end(text: bytes) -> bool:
    """Whether a text whose last bytes are these may end with a sentence, as far as its last byte tells."""
    return text[-1:] in LAST


def ends_sentence(text: bytes) -> bool:
    """Whether a text of which these are the last bytes may end here, with a sentence; more than FAR of them are not looked at."""
    if not could_end(text) or split_half_character(text[-4:])[1]:
        return False
    shown = text[-FAR:].decode("utf-8", "ignore")
    said = shown.rstrip()
    if not said:
        return False
    if PARAGRAPH.search(shown, len(said)):
        return not said.endswith(BREAKS_OFF)
    breaks = [found.end() for found in PARAGRAPH.finditer(said)]
    paragraph = said[breaks[-1] if breaks else 0 :]
    return bool(END.search(paragraph)) and not NO_END.search(paragraph) and not is_quoting(paragraph)


def is_quoting(paragraph: str) -> bool:
    """Whether a quotation is left open at a paragraph's end.

    A mark that is an apostrophe as well opens one behind white space, a bracket, a dash or another mark, and closes one
    where no letter follows. What closes a quotation closes those within it.
    """
    opened: list[str] = []
    for before, mark, behind in zip(" " + paragraph, paragraph, paragraph[1:] + " ", strict=False):
        is_apostrophe = mark in "'’"
        closed = [place for place, quote in enumerate(opened) if mark in QUOTES[quote]]
        if closed and not (is_apostrophe and behind.isalpha()):
            del opened[closed[-1] :]
        elif mark in QUOTES and (not is_apostrophe or before.isspace() or before in '(-–—"“„'):
            opened.append(mark)
    return bool(opened)
