"""From people's files to their documents, in pieces that can be tokenised one by one; nothing is ever held whole."""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from finetune.formats import JSON, TABLES, Progress, byte_blocks, decoded, kind_of, parquet_rows
from finetune.json_rows import json_rows
from finetune.old_npz import read_npz
from finetune.tables import Layout, beginning, layout_of, table_rows
from generate import END, Refusal, Vocabulary, guess_encoding, plain_text, unescape

START = "<|startoftext|>"  # as old data spells it
PIECE = 2**16  # characters: so much is tokenised at once
USUAL = {".csv": ",", ".tsv": "\t"}  # delimiters
MANY_BYTES = ("utf-8", "gb18030", "big5", "cp932", "euc-jp", "cp949")  # seldom what something else looks like
MOST = 2**20  # characters, after which a text without a space is cut anywhere
BLANK = 200  # spaces and tabs that a blank line may have
# GPT-2's \s is Unicode's White_Space. Python's has also U+001C to U+001F, so before a cut we avoid Python's.
SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CUT = re.compile(rf"\S(?=[{SPACE}])")


@dataclass(frozen=True)
class Reading:
    r"""How files become documents; raises Refusal when it cannot be.

    `documents` is "file", "line", "blank-line" or a separator's text; there and in `format`, \n, \r, \t and \\ are escapes.
    `header`, "yes", "no" or "auto", is of tables: whether their first row is one.
    """

    documents: str = "file"
    format: str = "{text}"
    encoding: str = "utf-8"
    column: str | None = None
    field: str | None = None
    header: str = "auto"

    def __post_init__(self):
        if not self.documents:
            raise Refusal("The separator of --documents is empty; give file, line, blank-line, or a text.", "documents")
        if self.format.count("{text}") != 1:
            raise Refusal(
                "--format must hold {{text}} exactly once, not as in {given!r:.80}.", "format", given=self.format
            )
        if START in self.format or END in self.format:
            raise Refusal(
                "Leave {start} and {end} out of --format; documents get the real tokens anyway.",
                "format",
                start=START,
                end=END,
            )
        try:
            codecs.getincrementaldecoder(self.encoding)
            b"a".decode(self.encoding)  # one that is not for text, such as base64, is refused here
        except UnicodeError:
            pass  # half a character of UTF-16
        except (LookupError, ValueError):
            raise Refusal(
                "There is no encoding {given!r:.40}; try utf-8 or latin-1.", "encoding", given=self.encoding
            ) from None


@dataclass(frozen=True)
class Borders:
    """Where documents end in a text, and what is dropped at their beginning. Each match has at most `reach` characters.

    A marker is group 1 of `border`; one newline on either side of it belongs to it.
    """

    border: re.Pattern
    at_end: re.Pattern  # in place of `border` where the file ends too
    opening: re.Pattern
    reach: int


def pieces(
    source: Path, reading: Reading, progress: Progress = lambda _: None, vocabulary: Vocabulary | None = None
) -> Iterator[tuple[str, bool]]:
    """The documents of a file, formatted: (text, whether the document ends here). No text is empty.

    A document is cut only before a whitespace that follows something else: there GPT-2's pre-tokeniser cuts always, so
    the tokens of the pieces are those of the whole; only after MOST characters without such a place, anywhere.
    Documents of nothing but whitespace are skipped. `vocabulary` spells the ids of an .npz. Raises Refusal.
    """
    before, after = plain_text(unescape(reading.format, "nrt")).split("{text}")
    yield from cut(formatted(fragments_of(source, reading, progress, vocabulary), before, after))


def fragments_of(
    source: Path, reading: Reading, progress: Progress, vocabulary: Vocabulary | None
) -> Iterator[tuple[str, bool]]:
    """The documents of a file of any kind, not yet formatted, as `fragments` yields them; raises Refusal."""
    kind = kind_of(source)
    check_options(source, kind, reading)
    if kind == "":
        return fragments(decoded(source, reading.encoding, progress), borders(reading.documents))
    if kind == ".npz":
        return fragments(read_npz(source, vocabulary, END, progress), borders("file"))
    if kind == ".parquet":
        rows = parquet_rows(source, reading.column, progress)
    elif kind in TABLES:
        blocks = decoded(source, reading.encoding, progress)
        rows = table_rows(source, blocks, USUAL[kind], reading.column, reading.header)
    else:
        rows = json_rows(source, decoded(source, reading.encoding, progress), reading.field, kind != ".json")
    return of_rows(plain_rows(source, rows))


def layout(source: Path, reading: Reading) -> Layout | None:
    """What is assumed of a table before it is read; None of other files."""
    if (kind := kind_of(source)) not in TABLES:
        return None
    head, _ = beginning(decoded(source, reading.encoding, lambda _: None))
    return layout_of(source, head, USUAL[kind], reading.column, reading.header)


def misread(source: Path, reading: Reading) -> Refusal | None:
    """What speaks against the encoding that was given, where every byte stands for some letter: nothing is refused then."""
    kind, given = kind_of(source), codecs.lookup(reading.encoding).name
    if kind in (".parquet", ".npz") or given.startswith(("utf", "ascii")):
        return None
    head = next(byte_blocks(source, lambda _: None), b"")
    first = next((place for place, byte in enumerate(head) if byte > 127), None)
    found = None if first is None else guess_encoding(head, first)
    if found is None or found[0] not in MANY_BYTES or codecs.lookup(found[0]).name == given:
        return None
    return Refusal(
        "{file} reads more like {guess} (\u201c{reads}\u201d) than {given}",
        file=source.name,
        guess=found[0],
        reads=found[1],
        given=given,
    )


def plain_rows(source: Path, rows: Iterable[str]) -> Iterator[str]:
    """The rows as all text comes in: a cell of Parquet and an escape of JSON can hold what no text file can."""
    for number, row in enumerate(rows, 1):
        if "\0" in row:
            raise Refusal("{file}, row {row}: the text has a NUL character, U+0000.", file=source.name, row=number)
        yield plain_text(row)


def check_options(source: Path, kind: str, reading: Reading) -> None:
    """An option that says nothing about this kind of file is a mistake, not to be passed over."""
    is_table = kind in (*TABLES, ".parquet")
    is_json = kind in JSON
    if kind and reading.documents != "file":
        raise Refusal(
            "{file} consists of token ids; --documents is for text files."
            if kind == ".npz"
            else "{file} consists of rows; --documents is for text files.",
            "documents",
            file=source.name,
        )
    if reading.column is not None and not is_table and not (is_json and reading.field is not None):
        raise Refusal(
            "{file} has no columns; name a field with --field." if is_json else "{file} has no columns.",
            "column",
            file=source.name,
        )
    if reading.field is not None and not is_json and not (is_table and reading.column is not None):
        raise Refusal(
            "{file} has no fields; name a column with --column." if is_table else "{file} has no fields.",
            "field",
            file=source.name,
        )
    if reading.header != "auto" and kind not in TABLES:
        raise Refusal("{file} has no header; --header is for CSV and TSV.", "header", file=source.name)


def of_rows(rows: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """A row is a document, or several where an old end marker is written in it."""
    inner = borders("file")
    for row in rows:
        if "<|" in row:
            yield from fragments([row], inner)
        else:
            yield row, True


def borders(documents: str) -> Borders:
    """Where documents end by `--documents`; the old markers count in every case."""
    marker, reach = re.escape(END), len(START) + 2
    if documents == "line":
        border = re.compile(rf"\n|{marker}")
        return Borders(border, border, re.compile(re.escape(START)), reach)
    if documents == "blank-line":
        line = rf"\n[ \t]{{0,{BLANK}}}"
        border, at_end = rf"({marker})|{line}\n", rf"({marker})|{line}(?:\n|\Z)"
        opening = rf"[ \t]{{0,{BLANK}}}\n|{re.escape(START)}\n?"
        return Borders(re.compile(border), re.compile(at_end), re.compile(opening), BLANK + 4)
    separator = END if documents == "file" else plain_text(unescape(documents, "nrt"))
    border = re.compile(f"({'|'.join(re.escape(text) for text in dict.fromkeys((separator, END)))})")
    return Borders(border, border, re.compile(f"{re.escape(START)}\n?"), max(reach, len(separator) + 2))


def fragments(blocks: Iterable[str], borders: Borders) -> Iterator[tuple[str, bool]]:
    """Split a text at its borders: (text, whether the document ends here). A document without any text is left out.

    What may be the beginning of a border waits for the next block, so borders are the same however the text is cut.
    """
    rest, within, border = "", False, borders.border  # within: some of the document has been given out
    for block in chain(blocks, (None,)):
        if block is None:
            decided, border = len(rest), borders.at_end
        else:
            rest += block
            decided = len(rest) - borders.reach  # whatever begins before here is there to its end
        place = 0
        while place < decided:
            if not within and (found := borders.opening.match(rest, place)):
                place = found.end()
                continue
            found = border.search(rest, place)
            if found is None or found.start() >= decided:
                break
            start, end = found.span() if found.lastindex is None else widened(rest, place, *found.span())
            if within or start > place:
                yield rest[place:start], True
            place, within = end, False
        safe = max(place, decided if block is None else decided - 1)  # a newline before a border belongs to it
        if safe > place:
            yield rest[place:safe], False
            within = True
        rest = rest[safe:]
    if within:
        yield "", True


def widened(text: str, low: int, start: int, end: int) -> tuple[int, int]:
    """A marker's span with the one newline before it, if that is not before `low`, and the one after it."""
    return start - text.endswith("\n", low, start), end + text.startswith("\n", end)


def formatted(fragments: Iterable[tuple[str, bool]], before: str, after: str) -> Iterator[tuple[str, bool]]:
    """Put `before` and `after` around each document that is more than whitespace (or has MOST characters of it)."""
    held, within = "", False
    for text, ends in fragments:
        if not within:
            held = held + text if held else text
            if (not held or held.isspace()) and (ends or len(held) < MOST):
                held = "" if ends else held
                continue
            text, held, within = before + held, "", True
        yield (text + after if ends else text), ends
        within = not ends


def cut(fragments: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Regroup documents into pieces of about PIECE characters, as `pieces` says."""
    rest = ""
    for text, ends in fragments:
        rest, place = (rest + text if rest else text), 0
        while len(rest) - place > PIECE:
            found = CUT.search(rest, place + PIECE - 1, place + MOST)
            if found is None and len(rest) - place <= MOST:
                break
            border = place + MOST if found is None else found.end()
            yield rest[place:border], False
            place = border
        if ends:
            yield rest[place:], True
        rest = "" if ends else rest[place:]
