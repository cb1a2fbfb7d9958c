"""What is told is fixed sentences with named values, and no word of a language hides among the values."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from test_house import CATALOGUED, kinds_of_refusals

from generate import Problem, Refusal

NAMES = {"place", "sample", "token", "vocab", "wpe", "wte"}  # fields, options and weights that look like words
NAMES |= {"at", "behind", "edits", "from", "lens", "memory", "once", "options", "piece"}
NAMES |= {"rev", "run", "seen", "sheet", "suggestion", "text", "to", "turn"}
NAMES |= {"model", "prompt", "stop", "tokens"}  # of the API
NAMES |= {"makes"}  # of the workshop


def is_wording(text: str) -> bool:
    """Whether a literal holds words: letters that are no name of a file, an option or a field."""
    words = re.findall(r"(?<![\w.\-/])[A-Za-z]{2,}(?![\w./]|-\w)", text)
    return any(word not in NAMES for word in words)


class Values:
    """The values of all problems in some modules, traced to the literals that they can be."""

    def __init__(self, codes: dict[str, str], kinds: set[str]):
        self._kinds, self._trees = kinds, {name: ast.parse(code) for name, code in codes.items()}
        self._calls: dict[str, list[ast.Call]] = {}
        self._outer: dict[ast.AST, ast.AST | None] = {}
        for tree in self._trees.values():
            self._look_through(tree, None)

    def _look_through(self, node: ast.AST, function: ast.AST | None) -> None:
        self._outer[node] = function
        if isinstance(node, ast.Call):
            self._calls.setdefault(ast.unparse(node.func).split(".")[-1], []).append(node)
        inner = node if isinstance(node, ast.FunctionDef) else function
        for child in ast.iter_child_nodes(node):
            self._look_through(child, inner)

    def wordings(self) -> list[str]:
        """Every value that is a wording, as `file line: literal`."""
        found = []
        for name, tree in self._trees.items():
            for call in ast.walk(tree):
                if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in self._kinds:
                    values = [keyword.value for keyword in call.keywords if keyword.arg not in ("field", "retry_after")]
                    texts = {text for value in values for text in self.literals(value) if is_wording(text)}
                    found += [f"{name} line {call.lineno}: {text!r}" for text in sorted(texts)]
        return found

    def literals(self, node: ast.expr, depth: int = 0) -> Iterator[str]:
        """The literals that a value can be made of, through names, loops, and arguments of functions."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp(body=one, orelse=other):
                yield from self.literals(one, depth)
                yield from self.literals(other, depth)
            case ast.BoolOp(values=parts) | ast.JoinedStr(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    yield from self.literals(part, depth)
            case ast.BinOp(left=one, right=other):
                yield from self.literals(one, depth)
                yield from self.literals(other, depth)
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="join")):
                yield text
            case ast.Call(func=ast.Name(id=name)) if depth < 4:
                for function in self._functions(name):
                    for returned in (
                        part for part in ast.walk(function) if isinstance(part, ast.Return) and part.value
                    ):
                        yield from self.literals(returned.value, depth + 1)
            case ast.Name(id=name) if depth < 4 and (function := self._outer[node]) is not None:
                for value in [*bound(function, name), *self._arguments(function, name)]:
                    yield from self.literals(value, depth + 1)

    def _functions(self, name: str) -> Iterator[ast.FunctionDef]:
        for tree in self._trees.values():
            yield from (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)

    def _arguments(self, function: ast.FunctionDef, name: str) -> Iterator[ast.expr]:
        """What the function is given for a parameter, wherever it is called."""
        places = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        if name not in places:
            return
        place = places.index(name) - (places[0] in ("self", "cls"))
        for call in self._calls.get(function.name, ()):
            yield from call.args[place : place + 1]
            yield from (keyword.value for keyword in call.keywords if keyword.arg == name)


def bound(function: ast.AST, name: str) -> Iterator[ast.expr]:
    """What a function binds to a name by assigning it or by going through literals."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[target], value=value):
                yield from taken(target, value, name)
            case ast.NamedExpr(target=target, value=value):
                yield from taken(target, value, name)
            case ast.For(target=target, iter=ast.Tuple(elts=values) | ast.List(elts=values)):
                for value in values:
                    yield from taken(target, value, name)


def taken(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    """The part of a value that a name in the target gets."""
    match target, value:
        case ast.Name(id=found), _ if found == name:
            yield value
        case ast.Tuple(elts=targets), ast.Tuple(elts=values):
            for one, part in zip(targets, values, strict=False):
                yield from taken(one, part, name)
        case ast.Tuple(), ast.IfExp(body=one, orelse=other):
            yield from taken(target, one, name)
            yield from taken(target, other, name)


def codes(package: str) -> dict[str, str]:
    return {str(file.relative_to(ROOT)): file.read_text() for file in sorted(Path(ROOT / package).rglob("*.py"))}


@pytest.mark.parametrize("package", CATALOGUED)
def test_no_word_hides_among_the_values_of_what_is_told(package):
    assert Values(codes(package), kinds_of_refusals() | {"Problem"}).wordings() == []


@pytest.mark.parametrize(
    ("code", "is_right"),
    [
        ("Refusal('{name} is no {number}', name='config.json', number=3)", True),
        ("Refusal('{option} of {names}', option='--lora', names=', '.join(found))", True),
        ("Refusal('{reason}', reason=Problem('it has no header'))", True),
        ("def f(name): Refusal('{name}', name=name)\nf('n_embd')\nf(x)", True),
        ("Refusal('it can be {what}', what='continued')", False),
        ("Refusal('the models are {known}', known=', '.join(names) or 'none')", False),
        ("Refusal('{names}', names=' and '.join(names))", False),
        ("Refusal('{names}', names=f'{first} and {more} more')", False),
        ("def f():\n    noun = 'a number' if x else y\n    Refusal('{noun}', noun=noun)", False),
        ("def f():\n    kind, n = ('lacks', 1) if x else ('has', 2)\n    Refusal('{kind}', kind=kind)", False),
        ("def f():\n    for what in ('begin', 'end'): Refusal('{what}', what=what)", False),
        ("def f(log, what): Refusal('{what}', what=what)\nf(log, 'continued')", False),
        ("class C:\n    def f(self, what): Refusal('{what}', what=what)\nC().f(what='be continued')", False),
        ("def short(): return 'many digits'\ndef f(): Refusal('{given}', given=short())", False),
    ],
)
def test_a_word_among_the_values_is_found(code, is_right):
    assert (Values({"a.py": code}, {"Refusal"}).wordings() == []) is is_right


def test_a_problem_is_the_same_sentence_after_it_was_stored():
    inner = Refusal("{name!r} has {size:,} bytes", "name", name="a {b}", size=12345)
    problem = Problem(
        "{reason}; {free:.1f} of {shape} at {path}.", reason=inner, free=2.25, shape=(2, 3), path=Path("/a")
    )
    sentence = "'a {b}' has 12,345 bytes; 2.2 of [2, 3] at /a."
    assert str(problem).replace("(2, 3)", "[2, 3]") == sentence
    assert str(Problem.from_json(problem.message, problem.as_json())) == sentence
    assert str(Problem.from_json("100 {% of it.", None)) == "100 {% of it."
    assert str(Problem("{model} has {size}", model="a", size=3).altered(model="b", other=1)) == "b has 3"
