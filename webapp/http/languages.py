"""In which language a request is answered: the one that was chosen at the page's foot, else the first that its browser names.

What a page asks for later (pieces, streams) comes in the page's own language, which its scripts name. The API's is English.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from gettext import NullTranslations
from urllib.parse import urlsplit

from babel.messages.mofile import read_mo
from flask import Flask, Response, g, redirect, request, url_for
from flask_babel import Babel, get_locale

from generate import files, languages
from webapp.http.cookies import keep

NAMES = {"en": "English", languages.CHINESE: "中文"}
TAGS = {"en": "en", languages.CHINESE: "zh-Hans"}  # as HTML has them
BY_FIRST = {"en": "en", "zh": languages.CHINESE}  # whatever land or script it is written for
COOKIE = "rubric_language"  # holds nothing but a tag
HEADER, FIELD = "Page-Language", "lang"  # by which a page's scripts name its language
STAYS = 365 * 24 * 3600  # seconds
SCRIPTS = ("script", b"script")  # the context of what the page's scripts say; Babel reads it as bytes
SAME_FOR_ALL = ("static", "npm", "favicon")
API = ("/v1/", "/tokenize", "/detokenize", "/tokenizer_info")


def register(app: Flask) -> None:
    """Let every request have a language; call before all that may answer one."""
    Babel(app, default_translation_directories=str(files.TRANSLATIONS), locale_selector=wanted)
    words = languages.current  # templates and sentences ask the same catalogue, in streams too
    app.jinja_env.install_gettext_callables(
        lambda message: words().gettext(message), lambda *given: words().ngettext(*given), newstyle=True
    )
    app.before_request(begin)
    app.after_request(tell_caches)
    app.teardown_request(lambda _: languages.speak(None))
    app.add_template_filter(languages.gettext, "translated")  # what stands in a table of ours
    app.add_template_global(language_tag)
    app.add_template_global(other_languages)
    app.add_template_global(words_of_scripts)
    app.add_url_rule("/language", "language", choose, methods=["POST"])


def wanted() -> str:
    """The language of this request's answer."""
    if request.path.startswith(API):
        return "en"
    told = (request.headers.get(HEADER), request.args.get(FIELD), request.cookies.get(COOKIE))
    named = [*filter(None, told), *(tag for tag, quality in request.accept_languages if quality > 0)]
    return next((BY_FIRST[first] for name in named if (first := name.split("-")[0].lower()) in BY_FIRST), "en")


def begin() -> None:
    """Tell in the request's language until it is answered."""
    g.language = str(get_locale())
    languages.speak(languages.catalogue(g.language))


def tell_caches(response: Response) -> Response:
    """The same answer, which depends on what chooses the language; what is streamed later stays in the request's."""
    if request.endpoint not in SAME_FOR_ALL and not request.path.startswith(API):
        response.vary.update(("Accept-Language", "Cookie"))
    if response.is_streamed and not response.direct_passthrough:
        response.response = Spoken(languages.current(), response.response)
    return response


class Spoken:
    """The parts of an answer, each made while its language is spoken. Who leaves before the first closes it as well."""

    def __init__(self, words: NullTranslations, parts: Iterable):
        self._words, self._parts, self._made = words, parts, iter(parts)

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> object:
        with languages.speaking(self._words):
            return next(self._made)

    def close(self) -> None:
        """Let go of what makes them."""
        if hasattr(self._parts, "close"):
            self._parts.close()


def language_tag() -> str:
    """The page's language, as HTML names it."""
    return TAGS[g.get("language", "en")]


def other_languages() -> list[tuple[str, str]]:
    """(tag, own name) of the languages that the page could have instead."""
    return [(TAGS[name], own) for name, own in NAMES.items() if name != g.get("language", "en")]


@cache
def script_words(language: str) -> dict[str, str]:
    """What the page's scripts say, by the English words."""
    file = files.TRANSLATIONS / language / "LC_MESSAGES/messages.mo"
    if not file.exists():
        return {}
    with file.open("rb") as stream:
        return {message.id: message.string for message in read_mo(stream) if message.context in SCRIPTS}


def words_of_scripts() -> dict[str, str]:
    """The same in the page's language; empty for English, which stands in the scripts."""
    return script_words(g.get("language", "en"))


def choose():
    """Remember the language that was chosen, and lead back to where that was done."""
    tag = request.form.get("language", "")
    back = urlsplit(request.referrer or "")
    here = back.netloc == request.host and back.path.startswith("/") and not back.path.startswith("//")
    answer = redirect(f"{back.path}{f'?{back.query}' if back.query else ''}" if here else url_for("home.home"), 303)
    if tag in TAGS.values():
        keep(answer, COOKIE, tag, STAYS, samesite="Lax")
    return answer
