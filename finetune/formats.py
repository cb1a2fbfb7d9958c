"""From a file to its text in blocks, gzip or not, or to the rows of Parquet; tables and JSON have files of their own."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from generate import Problem, Refusal, TextDecoder

Progress = Callable[[int], None]  # gets the number of bytes read from the disk since last time

BLOCK = 2**20  # bytes
SNIFF = 2**16  # bytes, of which the first few show a binary file
LONGEST = 2**26  # characters of a line or a cell: more is a quotation mark that was never closed
TABLES = (".csv", ".tsv")
JSON = (".json", ".jsonl", ".ndjson")
KINDS = (*TABLES, *JSON, ".parquet", ".npz")
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


def kind_of(source: Path) -> str:
    """The ending that says how to read a file, one of KINDS; "" is text."""
    ending = Path(source.name.lower().removesuffix(".gz")).suffix
    if ending in KINDS[-2:] and is_packed(source):
        raise Refusal(
            "{file}: {ending} cannot be read through gzip; unpack it first (gunzip).", file=source.name, ending=ending
        )
    return ending if ending in KINDS else ""


def is_packed(source: Path) -> bool:
    """Whether a file's name says that it is gzip."""
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
    """The text of a file in blocks, as TextDecoder has it; raises Refusal that names line and byte where it is no text."""
    decoder = TextDecoder(source.name, encoding, "--encoding")
    for number, block in enumerate(byte_blocks(source, progress)):
        if number == 0:
            check_text(source, block)
        if text := decoder.decode(block):
            yield text
    if text := decoder.decode(b"", last=True):
        yield text


def check_text(source: Path, head: bytes) -> None:
    """Refuse a file that begins as a known binary format does."""
    for magic, what in MAGIC:
        if head.startswith(magic):
            raise Refusal(
                "{file} looks like a binary file ({what}); give text, CSV, TSV, JSON, JSON lines, Parquet, or these as .gz.",
                file=source.name,
                what=what,
            )


def lines(source: Path, blocks: Iterable[str]) -> Iterator[str]:
    """Lines with the newline that ends them; raises Refusal before one fills the memory."""
    rest = ""
    for block in blocks:
        *whole, rest = (rest + block).split("\n")
        yield from (f"{line}\n" for line in whole)
        if len(rest) > LONGEST:
            raise Refusal(
                "{file} has a line of more than {limit:,} characters; is its ending the right one?",
                file=source.name,
                limit=LONGEST,
            )
    if rest:
        yield rest


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
    """Names for a message: the first 20, odd or long ones quoted and cut."""
    shown = [name if name.isprintable() and 0 < len(name) < 40 else f"{name!r:.40}" for name in names[:20]]
    return ", ".join(shown + ["…"] * (len(names) > len(shown)))
