"""The language in which things are told: English, which stands in the code, or one that a catalogue has.

A thread tells in the language that it was set to (a request's), else in the process's own (a terminal's), else in English.
The catalogues are gettext's, in translations/; what is not in one stays English.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from gettext import GNUTranslations, NullTranslations, bindtextdomain, translation

from generate.files import TRANSLATIONS

ENGLISH = NullTranslations()
CHINESE = "zh_Hans"
_told_in: ContextVar[NullTranslations | None] = ContextVar("told_in", default=None)
_own = ENGLISH


def current() -> NullTranslations:
    """The catalogue of the language that is spoken here and now."""
    return _told_in.get() or _own


def language() -> str:
    """The name of the current language, as libraries know it that write numbers and dates."""
    return "en" if current() is ENGLISH else CHINESE


def gettext(message: str, /, **values: object) -> str:
    """A sentence in the current language, with its values in the placeholders (of str.format)."""
    found = current().gettext(message) if message else ""
    return found.format_map(values) if values else found


def pgettext(context: str, message: str) -> str:
    """The same of a word that has several meanings, one of which is that of the `context`."""
    return current().pgettext(context, message)


def ngettext(one: str, many: str, count: int, /, **values: object) -> str:
    """The same of what is said of `one` and of `many`; `count` is a value too."""
    return current().ngettext(one, many, count).format_map({"count": count} | values)


def spaced(sentences: Iterable[str]) -> str:
    """Sentences one after the other; those of Chinese stand without a space between them."""
    return (" " if current() is ENGLISH else "").join(sentences)


def N_(message: str) -> str:
    """Mark a sentence that is put into a language later, where it is told."""
    return message


@cache
def catalogue(language: str) -> NullTranslations:
    """That of a language by its name; English where there is none."""
    found = translation("messages", TRANSLATIONS, [language], GNUTranslations, fallback=True)
    return found if isinstance(found, GNUTranslations) else ENGLISH


def speak(words: NullTranslations | None) -> None:
    """Tell in the language of this catalogue in this thread from now on; None: in the process's own."""
    _told_in.set(words)


@contextmanager
def speaking(words: NullTranslations) -> Iterator[None]:
    """Tell in the language of this catalogue in this thread."""
    token = _told_in.set(words)
    try:
        yield
    finally:
        _told_in.reset(token)


def in_english(told: object) -> str:
    """What is told, in English: for logs."""
    with speaking(ENGLISH):
        return str(told)


def in_all(tell: Callable[[], str]) -> dict[str, str]:
    """What `tell` says in each language, by its name: for what is kept and told later."""
    found = {}
    for name in ("en", CHINESE):
        with speaking(catalogue(name)):
            found[name] = tell()
    return found


def language_of(environment: Mapping[str, str]) -> str:
    """What LC_ALL, LC_MESSAGES or LANG asks for, the first that is set; English when unsure."""
    wanted = next((found for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (found := environment.get(name))), "")
    return CHINESE if wanted.lower().replace("-", "_").split(".")[0].split("_")[0] == "zh" else "en"


def asked_for() -> NullTranslations:
    """The catalogue of the language of this process's user; English where its output cannot hold that."""
    try:
        "中文".encode(sys.stderr.encoding or "ascii")
        "中文".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ENGLISH
    return catalogue(language_of(os.environ))


def speak_as_asked() -> None:
    """Let this process tell in its user's language. For terminals; servers' logs are English."""
    global _own
    _own = words = asked_for()
    if words is not ENGLISH:  # argparse asks Python's own gettext, which goes by this
        os.environ["LANGUAGE"] = CHINESE
        bindtextdomain("messages", str(TRANSLATIONS))
