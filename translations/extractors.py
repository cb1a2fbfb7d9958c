"""What pybabel takes for sentences in our code, beside the templates: see babel.cfg.

In Python: the first argument of gettext, ngettext, N_, Problem and of every refusal (of choices each), the description of an
`abort`, the things that are `counted`, and the texts in rows of our tables and what argparse is told. In scripts: the first argument of `translated`.
"""

import ast
import io
import json
import re
from collections.abc import Iterator

from babel.messages.extract import extract_javascript
from babel.messages.jslexer import tokenize

MARKS = {"gettext", "N_", "Problem", "Broken"}
REFUSALS = {"NoRoom", "Refusal", "Busy", "BadRequest", "Question", "Damaged", "UploadRefusal", "Missing"}
REFUSALS |= {
    "UnknownHeads",
    "UnknownVocabulary",
    "DiskFull",
    "Misplaced",
    "TooMuch",
    "NotStored",
    "NotReady",
    "Unspoken",
    "NoPiece",
    "UnknownRun",
    "RemovedRun",
}
REFUSALS |= {"Forgotten", "UnknownSheet", "Foreign", "Stale", "HiddenSheet", "Enough", "Blocked"}
TABLES = {"Option": (5, 6), "ListOption": (2, 3, 4), "Preset": (1, 2), "Setting": (3,), "Field": (1, 2, 4)}
TABLES |= {"Group": (0,), "numeric": (2,)}
PARSERS = {
    "ArgumentParser",
    "add_argument",
    "add_parser",
}  # argparse's, whose help is put into words by generate/help.py
HELPS = {"help", "description", "epilog"}
TOKENS = "token"  # what is counted where nothing is named
SCRIPTS = "script"
EXPRESSION = re.compile(r"\$\{((?:[^{}]|\{[^{}]*\})*)\}")

Found = Iterator[tuple[int, str, object, list[str]]]


def python(fileobj, keywords, tags, options) -> Found:
    """Sentences of a module. The arguments are those that pybabel gives, here as below."""
    for node in ast.walk(ast.parse(fileobj.read())):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                yield from of_call(name, node)
            case ast.Assign(targets=[ast.Name(id="HELP")], value=ast.Dict(values=rows)):
                yield from ((row.lineno, "gettext", text, []) for row in rows for text in literals(row))
            case ast.Assign(targets=[ast.Name(id="SENTENCES")], value=ast.Dict(keys=rows)):  # names of languages
                yield from ((row.lineno, "gettext", text, []) for row in rows for text in literals(row))
            case ast.ClassDef(bases=[ast.Name(id="StrEnum")], name="Group", body=body):
                yield from ((row.lineno, "gettext", row.value.value, []) for row in body if isinstance(row, ast.Assign))


def of_call(name: str, call: ast.Call) -> Found:
    """Sentences that a call names."""
    given = call.args
    if name in MARKS | REFUSALS and given:
        yield from ((call.lineno, "gettext", text, []) for text in literals(given[0]))
    elif name == "ngettext" and len(given) > 1 and all(isinstance(text, ast.Constant) for text in given[:2]):
        yield call.lineno, "ngettext", (given[0].value, given[1].value), []
    elif name == "pgettext":
        yield call.lineno, "pgettext", tuple(text for node in given for text in literals(node)), []
    elif name == "abort" and len(given) > 1:
        yield from ((call.lineno, "gettext", text, []) for text in literals(given[1]))
    elif name == "counted":
        yield call.lineno, "ngettext", things(given), []
    for word in call.keywords if name in PARSERS else ():
        if word.arg in HELPS:
            yield from ((call.lineno, "gettext", text, []) for text in literals(word.value))
    for place in TABLES.get(name, ()):
        if place < len(given):
            yield from ((call.lineno, "gettext", text, []) for text in literals(given[place]) if text)


def things(given: list[ast.expr]) -> tuple[str, str]:
    """One and many of what `counted` counts."""
    named = [text for node in given[1:] for text in literals(node)]
    one = named[0] if named else TOKENS
    return f"{{count:,}} {one}", f"{{count:,}} {named[1] if len(named) > 1 else f'{one}s'}"


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, where it is one or a choice among some."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from literals(one)
            yield from literals(other)
        case ast.Call(func=ast.Name(id="N_"), args=[ast.Constant(value=str(text))]):
            yield text


def manifest(fileobj, keywords, tags, options) -> Found:
    """What the manifest of our own model says of it."""
    told = json.load(fileobj)
    yield from ((1, "gettext", told[name], []) for name in ("can", "cannot", "source") if told.get(name))


def script(fileobj, keywords, tags, options) -> Found:
    """Sentences of a script, in a context of their own: a page brings these and no others."""
    source = fileobj.read()
    for line, _, text, comments in extract_javascript(io.BytesIO(source), {"translated": None}, tags, options):
        sentence = text if isinstance(text, str) else text[0]
        if sentence:
            yield line, "pgettext", (SCRIPTS, sentence), comments
    for line, inner in expressions(source.decode()):
        for _, name, text, comments in script(io.BytesIO(inner.encode()), keywords, tags, options):
            yield line, name, text, comments


def expressions(source: str) -> Iterator[tuple[int, str]]:
    """What stands in ${} in the texts of a script, with the line of its text."""
    for token in tokenize(source, jsx=False):
        if token.type == "template_string":
            yield from ((token.lineno, found[1]) for found in EXPRESSION.finditer(token.value))


def template(fileobj, keywords, tags, options) -> Found:
    """Sentences of a template, the things that it counts among them."""
    from jinja2.ext import babel_extract

    for line, name, text, comments in babel_extract(fileobj, [*keywords, "counted"], tags, options):
        if name == "counted":
            one = next((part for part in (text if isinstance(text, tuple) else (text,)) if part), TOKENS)
            yield line, "ngettext", (f"{{count:,}} {one}", f"{{count:,}} {one}s"), comments
        else:
            yield line, name, text, comments
