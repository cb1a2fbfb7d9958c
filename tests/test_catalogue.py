"""No word for people is in no catalogue, and each is in Chinese as a native writes it."""

import re
from string import Formatter

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po
from conftest import ROOT
from test_house import kinds_of_refusals
from unmarked import extracted, in_python, in_script, in_template

from translations.extractors import REFUSALS, python, script

PACKAGES = ("generate", "convert", "finetune", "webapp")
FOLDERS = (*PACKAGES, "templates", "static", "models/storyteller")
SERVER = ("gunicorn.conf.py", "wsgi.py")
KEYWORDS = {"gettext": None, "_": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
OF_THE_API = {
    "Wrong",
    "TooLong",
    "UnknownModel",
    "TooLarge",
    "NotHere",
    "NoKey",
    "KeyBlocked",
    "Failed",
}  # which is English
IN_ENGLISH = (
    "webapp/api/",
    "webapp/routes/api.py",
    "webapp/routes/api_tokens.py",
    "webapp/migrations/",
    "webapp/watch/prometheus.py",
)
NO_SENTENCES = {  # texts for models, what only logs and programs read, parts of HTML
    "static/rubric.js": {"the browser refused"},
    "static/sheet/code.js": {"there is no sheet, for a reason that the page says"},
    "templates/pages/bring.html": {"/home/me/checkpoint/run1"},
    "templates/pages/embed.html": {'class="framed"'},
    "templates/pages/private_frame.html": {'class="framed"'},
    "templates/partials/macros.html": {"findAll button"},
    "webapp/routes/api_page.py": {"Once upon a time"},
    "webapp/runs/examples.py": ...,
    "webapp/runs/recorder.py": {"run %s could not be stored; trying again"},
    "webapp/runs/takeover.py": {
        "run %s could not be taken over; trying again",
        "run %s could not be ended; trying again",
    },
    "webapp/watch/logs.py": ...,
    "webapp/views/card/directions.py": {"FriBidi had no memory for a paragraph"},
    "webapp/views/model_facts.py": ...,
    "webapp/views/readme.py": {"nofollow noopener noreferrer"},
    "webapp/views/teach_form.py": {"Once upon a time"},
    "generate/compiled/tiles.py": ...,
    "generate/compiled/writer.py": ...,
    "generate/remote/line.py": {"whoever comes next"},
    "generate/remote/replica.py": ...,
    "generate/scheduling/forecast.py": {"whoever comes next"},
    "generate/scheduling/memory.py": {"can't allocate memory"},
    "generate/transformer/int8/pages.py": {"no page for keys and values is free"},
    "convert/certificate.py": ...,
    "convert/telling.py": {"x  x x x  x"},
    "finetune/samples.py": {"a training that goes on"},
}
HAN = "\u3400-\u9fff"
CLOSE = re.compile(rf"[{HAN}][A-Za-z0-9]|[A-Za-z0-9][{HAN}]|[{HAN}] ?[,;:?!]|[{HAN}]\.(?!\w)|[{HAN}]\(|\"[{HAN}]")
PERCENT = re.compile(r"%\(\w+\)s|%[sr]")


def unmarked(find, pattern: str) -> dict[str, list[str]]:
    """What `find` finds in files of ours that is not known to be no sentence, by their names."""
    found = {}
    for file in sorted(ROOT.glob(pattern)):
        name = str(file.relative_to(ROOT))
        known = NO_SENTENCES.get(name, set())
        if known is ... or name.startswith(IN_ENGLISH) or name.endswith(".min.js"):
            continue
        if left := [text for text in find(file.read_text()) if text not in known]:
            found[name] = left
    return found


@pytest.fixture(scope="module")
def sentences() -> dict[tuple, str | tuple]:
    """All sentences of the code, as `make translations` finds them, by context and the first of their forms."""
    with (ROOT / "translations/babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    found = {}
    for folder in FOLDERS:
        for _, _, message, _, context in extract_from_dir(ROOT / folder, methods, options, KEYWORDS):
            found[context, message if isinstance(message, str) else message[0]] = message
    for file in SERVER:
        for text in extracted(python, ROOT / file):
            found[None, text] = text
    return found


@pytest.fixture(scope="module")
def catalogue():
    with (ROOT / "translations/zh_Hans/LC_MESSAGES/messages.po").open("rb") as file:
        return read_po(file, locale="zh_Hans")


def of(message) -> str:
    """The one Chinese form of a message."""
    return message.string if isinstance(message.string, str) else message.string[0]


@pytest.mark.parametrize(
    ("find", "pattern"),
    [
        (in_template, "templates/**/*.html"),
        (in_script, "static/**/*.js"),
        *((in_python, f"{package}/**/*.py") for package in PACKAGES),
        *((in_python, file) for file in SERVER),
    ],
    ids=["templates", "scripts", *PACKAGES, *SERVER],
)
def test_no_sentence_is_in_no_catalogue(find, pattern):
    assert unmarked(find, pattern) == {}


@pytest.mark.parametrize(
    ("find", "code", "is_marked"),
    [
        (in_template, "<p>{{ _('A word') }}</p>", True),
        (in_template, "<p>{% trans n=1 %}A word of {{ n }}{% endtrans %} · <code>GET /v1</code></p>", True),
        (in_template, "<p>A word</p>", False),
        (in_template, '<a title="A word">{{ x }}</a>', False),
        (in_template, '<b aria-label="{{ x }} words"></b>', False),
        (in_template, "{{ 'An empty page' if x }}", False),
        (in_script, 'say(translated("It was lost."), "classname")', True),
        (in_script, 'say("It was lost.")', False),
        (in_script, "say(`It has ${n} words`)", False),
        (in_script, 'say(`<p class="x">${translated("It was lost.")}</p>`)', True),
        (in_script, 'say(`<p class="x">${shown("It was lost.")}</p>`)', False),
        (in_script, "say(`<p class='x'>It was lost.</p>`)", False),
        (in_python, "def f():\n    'It is documented here.'\n    log.info('It was said here.')", True),
        (in_python, "told = gettext('It was {what} here.', what=x) + counted(2, 'head')", True),
        (in_python, "told = 'It was said here.'", False),
        (in_python, "told = f'{n} words were said'", False),
        (in_python, "raise Refusal('It is {kind}.', kind=Problem(NAMES.get(kind, N_('a number'))))", True),
        (in_python, "raise Refusal('It is {kind}.', kind=NAMES.get(kind, 'a number'))", False),
        (in_python, "raise Refusal('It is {kind}.', kind='short' if n < 3 else name)", False),
        (in_python, "bar = tqdm(total=size, unit='B', desc=gettext('reading'))", True),
        (in_python, "bar = tqdm(total=size, unit='B', desc='reading')", False),
    ],
)
def test_a_sentence_without_a_mark_is_found(find, code, is_marked):
    assert (list(find(code)) == []) is is_marked


def test_a_sentence_is_found_wherever_it_stands_in_a_script():
    wanted = re.compile(r'\btranslated\(\s*"((?:[^"\\]|\\.)*)"')
    for file in (file for file in (ROOT / "static").rglob("*.js") if not file.name.endswith(".min.js")):
        found = {text for _, text in extracted(script, file)}
        assert set(wanted.findall(file.read_text())) <= found, file.name


def test_every_kind_of_refusal_is_looked_through():
    assert kinds_of_refusals() - OF_THE_API == REFUSALS


def test_the_catalogue_has_all_sentences_and_no_others(sentences, catalogue):
    """`make translations` brings it up to date."""
    there = {(message.context, message.id if isinstance(message.id, str) else message.id[0]) for message in catalogue}
    there.discard((None, ""))
    assert sentences.keys() - there == set(), "not in messages.po: run `make translations`"
    assert there - sentences.keys() == set(), "not said any more: run `make translations`"


def test_every_sentence_is_put_into_chinese(catalogue):
    assert [message.id for message in catalogue if message.id and (not of(message) or message.fuzzy)] == []


def placeholders(text: str) -> tuple[set, set]:
    """Those of a sentence: str.format's, each with how it is written (`!r`, `:,`), and those of templates and argparse."""
    try:
        ours = {(name, form, how) for _, name, how, form in Formatter().parse(text) if name is not None}
    except ValueError:
        ours = set()
    return ours, set(PERCENT.findall(text))


def test_the_chinese_of_a_sentence_has_its_placeholders(catalogue):
    wrong = []
    for message in catalogue:
        english = message.id if isinstance(message.id, str) else message.id[-1]
        if english and placeholders(english) != placeholders(of(message)):
            wrong.append((english, of(message)))
    assert wrong == []


def test_links_and_inks_stay_in_the_chinese_of_a_sentence(catalogue):
    tags = re.compile(r"</?\w+")
    ids = ((message.id if isinstance(message.id, str) else message.id[-1], message) for message in catalogue)
    assert [e for e, m in ids if e and sorted(tags.findall(e)) != sorted(tags.findall(of(m)))] == []


def test_the_chinese_is_set_as_chinese_is(catalogue):
    """Its own punctuation, a space between Han and Latin or figures, 你 and not 您."""
    wrong = []
    for message in catalogue:
        text = re.sub(r"</?\w+[^>]*>|`[^`]*`|y年M月d日", "", of(message))  # tags, code, a date's pattern
        text = re.sub(r"\{[^{}]*\}|%\(\w+\)s", "\ue000", text)
        if message.id and (CLOSE.search(text) or "您" in text or re.search(rf"[{HAN}。，；：][ ]?\.\.\.", text)):
            wrong.append(of(message))
    assert wrong == []
