"""From a file to its text or its rows, in blocks: plain text, CSV, TSV, JSON lines, Parquet, and gzip of these."""

import codecs
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from generate import Problem, Refusal

Progress = Callable[[int], None]  # gets the number of bytes read from the disk since last time

BLOCK = 2**20  # bytes
SNIFF = 2**16  # bytes, in which a binary file shows itself
LONGEST = 2**26  # characters of a line or a cell: more is a quotation mark that was never closed
KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".npz")
BOMS = (  # the longer first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WIDE = ("utf-16", "utf-32")
MAGIC = (
    (b"\x1f\x8b", Problem("gzip; its name must end in .gz")),
    (b"PK\x03\x04", Problem("a zip archive or an office document")),
    (b"\x89PNG", Problem("a PNG picture")),
    (b"\xff\xd8\xff", Problem("a JPEG picture")),
    (b"%PDF-", Problem("a PDF")),
    (b"PAR1", Problem("Parquet; its name must end in .parquet")),
    (b"\xfd7zXZ\x00", Problem("xz")),
    (b"BZh91AY&SY", Problem("bzip2")),
    (b"\x28\xb5\x2f\xfd", Problem("zstandard")),
)
NEWLINE = re.compile(r"\r\n|\n|\r(?!\Z)")  # a \r at the end of a block may be half of \r\n


def kind_of(source: Path) -> str:
    """The ending that says how to read a file, one of KINDS; "" is text."""
    ending = Path(source.name.lower().removesuffix(".gz")).suffix
    if ending in KINDS[-2:] and is_packed(source):
        raise Refusal(
            "{file}: {ending} cannot be read through gzip; unpack it first (gunzip).", file=source.name, ending=ending
        )
    return ending if ending in KINDS else ""


def is_packed(source: Path) -> bool:
    return source.name.lower().endswith(".gz")


def byte_blocks(source: Path, progress: Progress) -> Iterator[bytes]:
    """The content of a file, unpacked: first SNIFF bytes of it, then blocks of BLOCK."""
    try:
        with source.open("rb") as file, gzip.open(file) if is_packed(source) else file as stream:
            size, told = SNIFF, 0
            while block := stream.read(size):
                size, told, before = BLOCK, file.tell(), told
                progress(told - before)
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Refusal(
            "{file} is not gzip, or damaged ({reason}); copy it again.", file=source.name, reason=error
        ) from None
    except OSError as error:
        raise Refusal("{path} cannot be read: {reason}.", path=source, reason=error.strerror or error) from None


def decoded(source: Path, encoding: str, progress: Progress) -> Iterator[str]:
    """The text of a file in blocks, every line ending as it is, without its byte order mark.

    A byte order mark outranks `encoding`. Raises Refusal that names line and byte where it does not decode.
    """
    decoder, line = None, 1
    for block, last in chain(((b, False) for b in byte_blocks(source, progress)), ((b"", True),)):
        if decoder is None:
            encoding, marked = real_encoding(block, encoding)
            check_text(source, block, encoding)
            decoder, block = codecs.getincrementaldecoder(encoding)(), block[marked:]
        try:
            text = decoder.decode(block, last)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(encoding, "replace").count("\n")
            raise Refusal(
                "{file}, line {line}: byte 0x{byte:02x} is not {encoding}; save the file as UTF-8, or give "
                "--encoding latin-1 (or what it is).",
                file=source.name,
                line=line,
                byte=error.object[error.start],
                encoding=encoding,
            ) from None
        except UnicodeError as error:
            raise Refusal(
                "{file} is not {encoding} ({reason}); save the file as UTF-8.",
                file=source.name,
                encoding=encoding,
                reason=error,
            ) from None
        line += text.count("\n")
        if text:
            yield text


def real_encoding(head: bytes, encoding: str) -> tuple[str, int]:
    """The encoding's name and the length of the byte order mark in bytes; UTF-16 without one is little-endian."""
    for mark, name in BOMS:
        if head.startswith(mark):
            return name, len(mark)
    name = codecs.lookup(encoding).name
    return (f"{name}-le" if name in WIDE else name), 0


def check_text(source: Path, head: bytes, encoding: str) -> None:
    what = next((what for magic, what in MAGIC if head.startswith(magic)), None)
    if what is None and b"\0" in head[:SNIFF] and not encoding.startswith(WIDE):
        what = Problem("it has NUL bytes")
    if what is not None:
        raise Refusal(
            "{file} looks like a binary file ({what}); give text, CSV, TSV, JSON lines, Parquet, or these as .gz.",
            file=source.name,
            what=what,
        )


def lines(source: Path, blocks: Iterable[str]) -> Iterator[str]:
    r"""Lines with their endings, which are \n, \r\n and \r; raises Refusal before one fills the memory."""
    rest = ""
    for block in blocks:
        rest, place = rest + block, 0
        for found in NEWLINE.finditer(rest):
            yield rest[place : found.end()]
            place = found.end()
        rest = rest[place:]
        if len(rest) > LONGEST:
            raise Refusal(
                "{file} has a line of more than {limit:,} characters; is its ending the right one?",
                file=source.name,
                limit=LONGEST,
            )
    if rest:
        yield rest


def table_rows(source: Path, blocks: Iterable[str], delimiter: str, column: str | None) -> Iterator[str]:
    """One column of a CSV or TSV with a header, cell by cell; what is missing in a short row is empty."""
    csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
    reader = csv.reader(lines(source, blocks), delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if header is not None:
            index = column_index(source, header, column)
            yield from (row[index] for row in reader if len(row) > index)
    except csv.Error as error:
        raise Refusal(
            "{file}, line {line}: {reason}; is every quotation mark closed?",
            file=source.name,
            line=reader.line_num,
            reason=error,
        ) from None


def column_index(source: Path, names: Sequence[str], column: str | None) -> int:
    """Where the column of that name stands, or of that number; the only one needs neither."""
    if column is None and len(names) == 1:
        return 0
    if column is None:
        raise Refusal(
            "{file} has the columns {columns}; choose one with --column.",
            "column",
            file=source.name,
            columns=listed(names),
        )
    if names.count(column) > 1:
        raise Refusal(
            "{file} has several columns {column}; choose one by number, from 0.",
            "column",
            file=source.name,
            column=column,
        )
    if column in names:
        return names.index(column)
    if re.fullmatch("[0-9]{1,6}", column) and int(column) < len(names):
        return int(column)
    raise Refusal(
        "{file} has no column {column}; it has {columns}.",
        "column",
        file=source.name,
        column=column,
        columns=listed(names),
    )


def json_rows(source: Path, blocks: Iterable[str], field: str | None) -> Iterator[str]:
    """One field of each line's object; null is empty, and the only field of an object needs no naming."""
    for number, line in enumerate(lines(source, blocks), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refusal(
                "{file}, line {line} is not JSON ({reason}).", file=source.name, line=number, reason=error
            ) from None
        if not isinstance(row, dict):
            raise Refusal(
                "{file}, line {line}: it holds no object, but a {kind}.",
                file=source.name,
                line=number,
                kind=type(row).__name__,
            )
        name = next(iter(row)) if field is None and len(row) == 1 else field
        if name is None:
            raise Refusal(
                "{file}, line {line} has the fields {fields}; choose one with --field.",
                "field",
                file=source.name,
                line=number,
                fields=listed([*row]),
            )
        value = value_of(Refusal("{file}, line {line}", file=source.name, line=number), row, name)
        if not isinstance(value, str | None):
            raise Refusal(
                "{file}, line {line}: {name} is no text, but {value!r:.40}.",
                "field",
                file=source.name,
                line=number,
                name=name,
                value=value,
            )
        yield value or ""


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


def parquet_rows(source: Path, column: str | None, progress: Progress) -> Iterator[str]:
    """One column of text, in small batches; null is empty. `pyarrow` is imported only here."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise Refusal(
            "{file}: reading Parquet needs pyarrow; install it with `pip install pyarrow`.", file=source.name
        ) from None
    try:
        with parquet.ParquetFile(source, buffer_size=BLOCK, pre_buffer=False) as file:
            names = file.schema_arrow.names
            field = file.schema_arrow.field(column_index(source, names, column))
            is_text = any(field.type.equals(t) for t in (pyarrow.string(), pyarrow.large_string()))
            is_coded = pyarrow.types.is_dictionary(field.type) and pyarrow.types.is_string(field.type.value_type)
            if not is_text and not is_coded:
                raise Refusal(
                    "{file}: column {column} is no text, but {kind}.",
                    "column",
                    file=source.name,
                    column=field.name,
                    kind=field.type,
                )
            size, rows, done, told = source.stat().st_size, max(1, file.metadata.num_rows), 0, 0
            for batch in file.iter_batches(256, columns=[field.name], use_threads=False):
                yield from (cell or "" for cell in batch.column(0).to_pylist())
                done, before = done + len(batch), told
                told = size * done // rows
                progress(told - before)
    except Refusal:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refusal(
            "{file} cannot be read as Parquet ({reason:.200}); copy it again.", file=source.name, reason=reason
        ) from None


def listed(names: Sequence[str]) -> str:
    shown = [name if name.isprintable() and 0 < len(name) < 40 else f"{name!r:.40}" for name in names[:20]]
    return ", ".join(shown + ["…"] * (len(names) > len(shown)))
