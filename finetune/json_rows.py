"""One text of each value in a JSON file: of an array, or of one value a line."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from finetune.formats import LONGEST, lines, listed
from generate import Problem, Refusal, gettext

SPACE = re.compile(r"[ \t\n\r]*")
NAMES = {
    dict: Problem("an object"),
    list: Problem("an array"),
    str: Problem("a text"),
    bool: Problem("a truth value"),
    type(None): Problem("null"),
}
NUMBER = Problem("a number")


def json_rows(source: Path, blocks: Iterable[str], field: str | None, as_lines: bool) -> Iterator[str]:
    """Each string, or one field of each object; null is empty, and the only field of an object needs no naming.

    `as_lines`: one value a line; else it may also be one array. Raises Refusal that names the line.
    """
    values = of_lines(source, blocks) if as_lines else of_file(source, iter(blocks))
    for line, value in values:
        yield text_of(Refusal("{file}, line {line}", file=source.name, line=line), value, field)


def of_file(source: Path, blocks: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """The values of an array, or of each line, with the line where each begins."""
    head = next((block for block in blocks if block.strip()), "")
    blocks = chain((head,), blocks)
    return of_array(source, blocks) if head.lstrip().startswith("[") else of_lines(source, blocks, alone=True)


def of_lines(source: Path, blocks: Iterable[str], alone: bool = False) -> Iterator[tuple[int, Any]]:
    """The value of each line that is not blank, with the line's number; `alone` as in `no_json`. Raises Refusal."""
    for number, line in enumerate(lines(source, blocks), 1):
        if line.strip():
            try:
                yield number, json.loads(line, object_pairs_hook=as_object)
            except (ValueError, RecursionError) as error:
                raise no_json(source, number, error, alone) from None


def of_array(source: Path, blocks: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """The values of one array, with the line where each begins; raises Refusal."""
    reader = ArrayReader(source, blocks)
    reader.sign("[")
    empty = reader.peek() == "]"
    while not empty:
        reader.peek()
        yield reader.line, reader.value()
        if reader.sign(",", "]") == "]":
            break
    else:
        reader.sign("]")
    if reader.peek():
        raise no_json(source, reader.line, Problem("something follows the array"))


class ArrayReader:
    """Reads signs and values off a text that comes in blocks, and keeps nothing of what was read."""

    def __init__(self, source: Path, blocks: Iterator[str]):
        self.line = 1
        self._source, self._blocks = source, blocks
        self._text, self._place = "", 0
        self._decoder = json.JSONDecoder(object_pairs_hook=as_object)

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            self._go_to(SPACE.match(self._text, self._place).end())
            if self._place < len(self._text) or not self._grow(1):
                return self._text[self._place : self._place + 1]

    def sign(self, *wanted: str) -> str:
        """Take the next character that is no space, one of those `wanted`; raises Refusal for any other."""
        found = self.peek()
        if found not in wanted:
            raise no_json(self._source, self.line, Problem("{sign} is missing", sign=gettext(" or ").join(wanted)))
        self._go_to(self._place + 1)
        return found

    def value(self) -> Any:
        """The value that begins here; of one that is cut, twice as much text is looked at, and so on."""
        while True:
            size = len(self._text) - self._place
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError | Refusal) or size > LONGEST or not self._grow(size):
                    raise no_json(self._source, self.line, error) from None
                continue
            if end < len(self._text) or not self._grow(1):  # a number at the end may go on
                self._go_to(end)
                return value

    def _go_to(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _grow(self, size: int) -> bool:
        """Take `size` more characters or as many as there are; False when there are none."""
        more, count = [], 0
        while count < size and (block := next(self._blocks, "")):
            more.append(block)
            count += len(block)
        self._text, self._place = self._text[self._place :] + "".join(more), 0
        return bool(more)


def no_json(source: Path, line: int, error: Exception | str, alone: bool = False) -> Refusal:
    """The refusal for what is not JSON; `alone`: a line was read by itself because the file is no array."""
    reason = getattr(error, "msg", error)  # without its own count of lines
    if alone:
        return Refusal(
            "{file}, line {line} is no JSON by itself ({reason}); give an array of objects or texts, or one of them a line.",
            file=source.name,
            line=line,
            reason=reason,
        )
    return Refusal("{file}, line {line} is not JSON ({reason}).", file=source.name, line=line, reason=reason)


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; raises Refusal where it has two fields of one name, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal("an object has several fields {name!r:.60}", name=twice)
    return found


def text_of(where: Refusal, value: Any, field: str | None) -> str:
    """The text that a value is, or that its field holds (null: none); raises Refusal that begins with `where`."""
    if isinstance(value, str) and field is None:
        return value
    if not isinstance(value, dict):
        raise Refusal(
            "{where}: it holds no object, but {kind}.",
            where=where,
            kind=NAMES.get(type(value), NUMBER),
        )
    name = next(iter(value)) if field is None and len(value) == 1 else field
    if name is None:
        raise Refusal(
            "{where} has the fields {fields}; choose one with --field.", "field", where=where, fields=listed([*value])
        )
    found = value_of(where, value, name)
    if not isinstance(found, str | None):
        raise Refusal("{where}: {name} is no text, but {value!r:.40}.", "field", where=where, name=name, value=found)
    return found or ""


def value_of(where: Refusal, row: dict, name: str) -> Any:
    """What the field of that name holds; of `a.b`, unless a field is called so, field b of the object in field a."""
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    if dot and isinstance(row.get(head), dict):
        return value_of(Refusal("{where}, in {name}", where=where, name=head), row[head], rest)
    if dot and head in row:
        if row[head] is None:
            return None
        raise Refusal(
            "{where}: {outer} is no object that could have a field {inner}, but {value!r:.40}.",
            "field",
            where=where,
            outer=head,
            inner=rest,
            value=row[head],
        )
    raise Refusal(
        "{where} has no field {name}; it has {fields}.", "field", where=where, name=name, fields=listed([*row])
    )
