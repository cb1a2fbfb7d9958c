"""One column of a CSV or TSV: how its cells are separated and quoted, by evidence, and that every row fits its header."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from finetune.formats import LONGEST, column_index, lines, listed
from finetune.header import has_header
from generate import Problem, Refusal

HEAD = 2**18  # characters at the beginning of a file by which it is judged
SEPARATOR = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)  # Excel's first line
DELIMITERS = (",", ";", "\t")
NAMES = {",": Problem("commas"), ";": Problem("semicolons"), "\t": Problem("tabs")}
Rows = list[list[str]]


@dataclass(frozen=True)
class Layout:
    """How the cells of a file are written, and what its first row is: `columns` are the header's cells, or numbers."""

    delimiter: str
    quoted: bool  # a cell that opens with a quotation mark goes on to the next one
    skipped: int  # lines before the first row
    columns: list[str]
    header: bool

    @property
    def told(self) -> Problem:
        """How it is read, as a part of a sentence."""
        between = NAMES.get(self.delimiter, repr(self.delimiter))
        if not self.quoted:
            between = Problem("{between}, quotation marks are text", between=between)
        if self.header:
            columns = listed(self.columns)
            return Problem(
                "cells between {between}; the first row is the header ({columns})", between=between, columns=columns
            )
        return Problem("cells between {between}; no header, the first row is a document too", between=between)


def table_rows(source: Path, blocks: Iterable[str], usual: str, column: str | None, header: str) -> Iterator[str]:
    """The cells of one column, without the header's; blank lines are none. `usual` is the delimiter of the file's kind.

    Raises Refusal for a row that has more or fewer cells than the first.
    """
    head, blocks = beginning(blocks)
    layout = layout_of(source, head, usual, column, header)
    text = lines(source, blocks)
    for _ in range(layout.skipped):
        next(text)
    reader = csv.reader(text, strict=True, **dialect(layout.delimiter, layout.quoted))
    index, first, before = None, layout.header, 0
    try:
        for row in reader:
            line, before = layout.skipped + before + 1, reader.line_num
            if not row:
                continue
            if len(row) != len(layout.columns):
                raise misfit(source, line, len(row), layout)
            index = column_index(source, layout.columns, column) if index is None else index
            if not first:
                yield row[index]
            first = False
    except csv.Error as error:
        raise Refusal(
            "{file}, line {line}: {reason}; is every quotation mark closed?",
            file=source.name,
            line=layout.skipped + reader.line_num,
            reason=error,
        ) from None


def misfit(source: Path, line: int, cells: int, layout: Layout) -> Refusal:
    """The refusal for a row with more or fewer cells than the first."""
    return Refusal(
        "{file}, line {line}: the row has {cells} cell(s), where the first row has {columns}, with {delimiter} between them; "
        "a cell that holds one must stand in quotation marks.",
        file=source.name,
        line=line,
        cells=cells,
        columns=len(layout.columns),
        delimiter=NAMES.get(layout.delimiter, repr(layout.delimiter)),
    )


def beginning(blocks: Iterable[str]) -> tuple[str, Iterator[str]]:
    """The first HEAD characters or a few more, and all blocks again."""
    blocks, kept, size = iter(blocks), [], 0
    for block in blocks:
        kept.append(block)
        size += len(block)
        if size >= HEAD:
            break
    return "".join(kept), chain(kept, blocks)


def layout_of(source: Path, head: str, usual: str, column: str | None, header: str) -> Layout:
    """Judge a file by its beginning; raises Refusal where nothing tells whether it has a header."""
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    whole, skipped = len(head) < HEAD, 0
    if found := SEPARATOR.match(head):
        delimiter, head, skipped = found[1], head[found.end() :], 1
    else:
        delimiter = delimiter_of(head, whole, usual)
    quoted, rows = sample(head, whole, delimiter)
    first = rows[0] if rows else []
    named = has_header(rows, column) if header == "auto" else header == "yes"
    if named is None:
        raise Refusal(
            "{file}: nothing tells whether its first row ({row}) is a header; give --header yes or --header no.",
            "header",
            file=source.name,
            row=listed(first),
        )
    return Layout(delimiter, quoted, skipped, first if named else [str(n) for n in range(len(first))], named)


def delimiter_of(head: str, whole: bool, usual: str) -> str:
    """What cuts the first row into several cells, and most others into as many; else `usual`."""
    shares = {}
    for delimiter in dict.fromkeys((usual, *DELIMITERS)):
        _, rows = sample(head, whole, delimiter)
        if rows and len(rows[0]) > 1:
            shares[delimiter] = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
    best = max(shares, key=lambda delimiter: shares[delimiter], default=usual)
    return best if shares.get(best, 0) > 0.5 else usual


def sample(head: str, whole: bool, delimiter: str) -> tuple[bool, Rows]:
    """Whether quotation marks enclose cells there, and the rows of a file's beginning.

    In CSV they do. Tables with tabs come with and without such marks: they do where the header or a cell with a doubled
    mark shows it, or where only so all rows have as many cells as the first.
    """
    rows, broken = parsed(head, whole, delimiter, quoted=True)
    if delimiter != "\t":
        return True, rows
    plain, _ = parsed(head, whole, delimiter, quoted=False)
    if broken or not even(rows):
        return False, plain
    enclosed = head.startswith('"') or re.search(r'(?:^|\t)"[^\t\n]*""[^\t\n]*"(?:\t|$)', head, re.MULTILINE)
    return (True, rows) if enclosed or not even(plain) else (False, plain)


def parsed(head: str, whole: bool, delimiter: str, quoted: bool) -> tuple[Rows, bool]:
    """The rows, and whether a quotation mark stands where none may; the last row may be cut unless `whole`."""
    reader = csv.reader(io.StringIO(head, newline=""), strict=True, **dialect(delimiter, quoted))
    rows, broken = [], False
    try:
        rows.extend(row for row in reader if row)
    except csv.Error as error:
        broken = whole or "unexpected end" not in str(error)
        return rows, broken
    return (rows if whole else rows[:-1]), broken


def dialect(delimiter: str, quoted: bool) -> dict:
    """What csv.reader is told of such cells."""
    return {"delimiter": delimiter} if quoted else {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}


def even(rows: Rows) -> bool:
    """Whether all rows have as many cells as the first."""
    return all(len(row) == len(rows[0]) for row in rows)
