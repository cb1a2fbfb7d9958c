"""Finds the words for people that are in the code and in no catalogue."""

import ast
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import jinja2
from babel.messages.jslexer import tokenize
from jinja2 import nodes

from translations.extractors import EXPRESSION, MARKS, PARSERS, REFUSALS, TABLES, expressions

NAMES = {
    "Rubric",
    "Esc",
    "Enter",
    "Tab",
    "Ctrl",
    "MB",
    "gpt2-medium",
    "txt",
    "png",
    "json",
    "preset",
    "parse_special",
    "code",
}
SHOWN = (
    "title",
    "aria-label",
    "placeholder",
    "alt",
    "data-label",
    "data-title",
    "data-unit",
)  # attributes that people read
SAMPLES = ("code", "pre", "kbd", "script", "style")  # elements whose text is no sentence
TRANSLATED = {"_", "gettext", "ngettext", "counted"}
SENTENCE = re.compile(r"[A-Z][a-z’']+(?: [\w“”(]|[.…?!]$)|[a-z]+[,;:]? [a-z]+,? [a-z]+")
ENGLISH = {"log", "logger"}  # what is told to logs
OURS = {
    "ValueError",
    "RuntimeError",
    "TypeError",
    "AttributeError",
    "AssertionError",
    "KeyError",
    "EOFError",
    "ImportError",
}
ASKS = {"execute", "text", "Index", "ForeignKeyConstraint", "UniqueConstraint", "CheckConstraint", "compile"}


def words(text: str) -> list[str]:
    """Those of a text that are neither names, nor parts of addresses and of placeholders."""
    return [word for word in re.findall(r"[A-Za-z][A-Za-z0-9_-]+", text) if word not in NAMES]


# Templates


class Shown(HTMLParser):
    """What a page without its expressions shows."""

    def __init__(self):
        super().__init__()
        self.found, self._open = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "input", "img", "br"):
            self._open.append(tag)
        self.found += [value for name, value in attributes if name in SHOWN and value and words(value)]

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text):
        if not set(self._open) & set(SAMPLES) and words(text):
            self.found.append(text.strip())


def in_template(source: str) -> Iterator[str]:
    """Words of a template that stand outside of `_` and trans."""
    page = Shown()
    bare = re.sub(r"\{% trans\b.*?\{% endtrans %\}", " ", source, flags=re.DOTALL)
    bare = re.sub(r"\{% macro (\w+)\(.*?\) %\}(?!\s*\n|<).*?\{% endmacro %\}", "", bare)  # a part of a tag
    page.feed(re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", bare, flags=re.DOTALL))
    yield from page.found
    yield from unmarked_constants(jinja2.Environment(extensions=["jinja2.ext.i18n"]).parse(source))


def unmarked_constants(node: nodes.Node, marked: bool = False) -> Iterator[str]:
    """Sentences in the expressions of a template that are no argument of `_`."""
    for child in node.iter_child_nodes():
        if (
            isinstance(child, nodes.Const)
            and isinstance(child.value, str)
            and not marked
            and SENTENCE.search(child.value)
        ):
            yield child.value
        is_call = isinstance(child, nodes.Call) and getattr(child.node, "name", "") in TRANSLATED
        yield from unmarked_constants(child, marked or is_call)


# Scripts


def in_script(source: str) -> Iterator[str]:
    """Sentences of a script that are not handed to `translated`."""
    before = ["", ""]
    for token in tokenize(source, jsx=False):
        text = token.value[1:-1] if token.type in ("string", "template_string") else ""
        if SENTENCE.search(re.sub(r"<[^>]*>", "", EXPRESSION.sub("x", text))) and before != ["translated", "("]:
            yield text
        if token.type not in ("linecomment", "multilinecomment"):
            before = [before[1], token.value]
    for _, inner in expressions(source):
        yield from in_script(inner)


# Python


def in_python(source: str) -> Iterator[str]:
    """Sentences of a module that are neither marked, nor refused, nor logged, nor documentation."""
    yield from in_node(ast.parse(source), False)


def in_node(node: ast.AST, marked: bool) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)) if not marked and SENTENCE.search(re.sub(r"\{[^{}]*\}", "x", text)):
            yield text
            return
        case ast.JoinedStr(values=parts):
            text = "".join(part.value if isinstance(part, ast.Constant) else "x" for part in parts)
            if not marked and SENTENCE.search(text):
                yield text
            for part in parts:
                yield from in_node(part, marked) if not isinstance(part, ast.Constant) else ()
            return
        case ast.Call(func=ast.Name(id="tqdm"), keywords=given):  # a bar's words
            bare = (
                word.value for word in given if word.arg in ("desc", "unit") and isinstance(word.value, ast.Constant)
            )
            yield from (value.value for value in bare if value.value != "B")
            return
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            logged = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ENGLISH
            told = MARKS | REFUSALS | PARSERS | TABLES.keys() | {"ngettext", "pgettext", "counted", "abort"}
            if name in MARKS | REFUSALS:
                yield from unmarked_values(node)
            marked = marked or logged or name in told | OURS | ASKS
        case ast.Assign(targets=[ast.Name(id="HELP")]) | ast.ClassDef(name="Group"):
            marked = True
    for child in children(node):
        yield from in_node(child, marked)


def unmarked_values(call: ast.Call) -> Iterator[str]:
    """Words that a call puts into the placeholders of its sentence as they are: `x="a"`, a choice, what `.get` finds else."""
    for word in call.keywords:
        if word.arg == "name":  # a field's
            continue
        given = [word.value]
        if isinstance(word.value, ast.IfExp):
            given = [word.value.body, word.value.orelse]
        elif isinstance(word.value, ast.Call) and getattr(word.value.func, "attr", "") == "get":
            given = word.value.args[1:]
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and words(value.value):
                yield value.value


def children(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a node, but for its documentation."""
    for child in ast.iter_child_nodes(node):
        is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if (
            not is_text
            and child is not getattr(node, "returns", None)
            and child is not getattr(node, "annotation", None)
        ):
            yield child


def extracted(method, path) -> Iterator[str]:
    """The sentences that an extractor finds in a file."""
    for _, _, text, _ in method(io.BytesIO(path.read_bytes()), [], [], {}):
        yield text
