"""Documents as token ids in memory-mapped files: made once for the same data, tokenizer and options, in flat memory."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tokenizers

from finetune.codec import Codec
from finetune.documents import Reading, pieces
from finetune.formats import kind_of
from generate import Refusal, in_place_of, write_json

try:
    import fcntl
except ImportError:  # not on Windows: there, what a killed process left stays until somebody removes it
    fcntl = None

FORMAT = 2  # of the folder; what changes the tokens of a text counts it up, and old caches are made anew
TOKENS, ENDS, ABOUT, LOCK = "tokens.bin", "ends.bin", "encoding.json", "encoding.lock"
BATCH = 2**20  # characters that are tokenised at once
YOUNG = 60  # seconds, in which another process may not have locked its folder yet


@dataclass(frozen=True)
class Encoding:
    """All documents as ids. `sources` has name, bytes and sha256 of every file; `tokenizer` is the sha256 of its JSON."""

    tokens: np.ndarray  # memory-mapped, [tokens] uint16 or uint32: all documents, each ending in the end token
    ends: np.ndarray  # memory-mapped, [documents] int64: where each document ends in `tokens`
    sources: tuple[dict, ...]
    path: Path
    begin: int | None
    end: int
    tokenizer: str


def encode(
    sources: Sequence[Path],
    reading: Reading,
    tokenizer: tokenizers.Tokenizer,
    begin: int | None,
    end: int,
    cache: Path,
    progress: Callable[[int], None],
) -> Encoding:
    """The encoding of `sources` in the folder `cache`, made only if the same is not there yet.

    `begin` is put before every document and `end` after it. `progress` gets the number of bytes read since last time.
    Raises Refusal, and leaves nothing half-made.
    """
    codec = Codec(tokenizer, begin, end)
    described = describe(sources)
    target = cache / key_of(sources, described, reading, codec)
    with suppress(Refusal):
        found = open_encoding(target)
        progress(sum(source["bytes"] for source in described))
        return Encoding(**vars(found) | {"sources": described})  # the same content may have got other names
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=cache, reason=error.strerror) from None
    remove_leftovers(cache)
    return write(sources, described, reading, codec, target, progress)


def write_encoding(
    sources: Sequence[Path],
    reading: Reading,
    tokenizer: tokenizers.Tokenizer,
    begin: int | None,
    end: int,
    target: Path,
    progress: Callable[[int], None],
) -> Encoding:
    """As `encode`, into the folder `target` of any name; what is there is replaced."""
    return write(sources, describe(sources), reading, Codec(tokenizer, begin, end), target, progress)


def open_encoding(path: Path, tokenizer: tokenizers.Tokenizer | None = None) -> Encoding:
    """The encoding in a folder; raises Refusal when there is none, not the whole of it, or one by another tokenizer."""
    try:
        about = json.loads((path / ABOUT).read_text("utf-8"))
        if about["format"] != FORMAT or about["dtype"] not in ("<u2", "<u4"):
            raise Refusal("{path} was encoded by another version; encode the text again.", path=path)
        arrays = [
            np.memmap(path / name, dtype, "r")
            for name, dtype in ((TOKENS, np.dtype(about["dtype"])), (ENDS, np.dtype("<i8")))
        ]
        if [len(array) for array in arrays] != [about["tokens"], about["documents"]]:
            raise Refusal("{path}: its files are cut short; encode the text again.", path=path)
        if len(arrays[1]) and arrays[1][-1] != len(arrays[0]):
            raise Refusal("{path}: its files do not belong together; encode the text again.", path=path)
        if tokenizer is not None and about["tokenizer"] != Codec(tokenizer, about["begin"], about["end"]).fingerprint:
            raise Refusal("{path} was encoded with another tokenizer; encode the text with this model's.", path=path)
        names = ("begin", "end", "tokenizer")
        return Encoding(*arrays, tuple(about["sources"]), path, *(about[name] for name in names))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(
            "{path} holds no encoded text (no whole {about}, {tokens} and {ends}).",
            path=path,
            about=ABOUT,
            tokens=TOKENS,
            ends=ENDS,
        ) from None


def describe(sources: Sequence[Path]) -> tuple[dict, ...]:
    """Name, bytes and sha256 of each file."""
    described = []
    for source in sources:
        try:
            with source.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                described.append({"name": whole_characters(source.name), "bytes": file.tell(), "sha256": digest})
        except OSError as error:
            raise Refusal("{path} cannot be read: {reason}.", path=source, reason=error.strerror or error) from None
    return tuple(described)


def key_of(sources: Sequence[Path], described: Sequence[dict], reading: Reading, codec: Codec) -> str:
    """64 hex digits that are the same only for the same tokens. Of a file's name, the kind alone matters."""
    contents = [
        (kind_of(source), source.name.lower().endswith(".gz"), d["sha256"])
        for source, d in zip(sources, described, strict=True)
    ]
    whole = [FORMAT, codec.fingerprint, codec.begin, codec.end, asdict(reading), contents]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def write(
    sources: Sequence[Path],
    described: Sequence[dict],
    reading: Reading,
    codec: Codec,
    target: Path,
    progress: Callable[[int], None],
) -> Encoding:
    """Tokenise documents into the folder `target`, which appears whole; raises Refusal, as for a file that changes."""
    stamps = [stamp(source) for source in sources]
    with in_place_of(target) as part, locked(part):
        with (part / TOKENS).open("wb") as tokens, (part / ENDS).open("wb") as ends:
            write_all(batches(sources, reading, codec, progress), codec, tokens, ends)
            sizes = {"tokens": tokens.tell() // codec.dtype.itemsize, "documents": ends.tell() // 8}
        if not sizes["documents"]:
            raise nothing_in(described)
        if stamps != [stamp(source) for source in sources]:
            raise Refusal("A file was changed while it was read; start again when it is finished.")
        whole = {"format": FORMAT, "dtype": codec.dtype.str, "begin": codec.begin, "end": codec.end, **sizes}
        options = {name: value and whole_characters(value) for name, value in asdict(reading).items()}
        whole |= {"tokenizer": codec.fingerprint, "reading": options, "sources": [*described]}
        write_json(part / ABOUT, whole)
    return open_encoding(target)


def stamp(source: Path) -> tuple[int, int] | None:
    """A file's size and time of change, by which a change is noticed; None where it cannot be read."""
    try:
        status = source.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def nothing_in(described: Sequence[dict]) -> Refusal:
    """The refusal for files without a document."""
    reason, first, more = Refusal("empty; there is nothing to learn from."), described[0]["name"], len(described) - 1
    if any(source["bytes"] for source in described):
        reason = Refusal("no document with any text is in there.")
    if more:
        return Refusal("{file} and {more} more: {reason}", file=first, more=more, reason=reason)
    return Refusal("{file}: {reason}", file=first, reason=reason)


Piece = tuple[str, bool, Path]  # text, whether the document ends here, where it is from


def batches(
    sources: Sequence[Path], reading: Reading, codec: Codec, progress: Callable[[int], None]
) -> Iterator[list[Piece]]:
    """The pieces of all documents, so many at once that all cores have something to do: BATCH characters."""
    batch, size = [], 0
    for source in sources:
        vocabulary = codec.spelled if kind_of(source) == ".npz" else None
        for text, ends in pieces(source, reading, progress, vocabulary):
            batch.append((text, ends, source))
            size += len(text)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def write_all(batches: Iterable[list[Piece]], codec: Codec, tokens: BinaryIO, ends: BinaryIO) -> None:
    """Append all ids and all documents' ends to the two files."""
    total, fresh = 0, True  # tokens so far; whether the next piece begins a document
    for batch in batches:
        ids, borders = encode_batch(batch, codec, fresh)
        tokens.write(ids.tobytes())
        ends.write((borders + total).tobytes())
        total, fresh = total + len(ids), batch[-1][1]


def encode_batch(batch: Sequence[Piece], codec: Codec, fresh: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids [tokens] with the begin and end tokens, and where in them documents end, [documents] int64."""
    texts = [whole_characters(text) for text, _, _ in batch]
    encodings = codec.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    rows = [encoding.ids for encoding in encodings]
    flat = [*chain.from_iterable(rows)]
    if codec.is_lossless and codec.vocabulary.bytes_of(flat) != "".join(texts).encode():
        raise unwritable(batch, rows, codec)
    places, marks, borders, place = [], [], [], 0
    for (_, last, _), row in zip(batch, rows, strict=True):
        if fresh and codec.begin is not None:
            places.append(place)
            marks.append(codec.begin)
        place += len(row)
        if last:
            places.append(place)
            marks.append(codec.end)
            borders.append(place + len(places))
        fresh = last
    ids = np.insert(np.array(flat, codec.dtype), places, np.array(marks, codec.dtype))
    return ids, np.array(borders, "<i8")


def whole_characters(text: str) -> str:
    """The text; half a surrogate pair, which JSON and a file's name can hold and UTF-8 cannot, is U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def unwritable(batch: Sequence[Piece], rows: Sequence[Sequence[int]], codec: Codec) -> Refusal:
    """Say which character of which file the tokenizer loses."""
    for (text, _, source), row in zip(batch, rows, strict=True):
        if codec.vocabulary.bytes_of(row) == whole_characters(text).encode():
            continue
        for character in sorted(set(whole_characters(text))):
            ids = codec.tokenizer.encode(character, add_special_tokens=False).ids
            if codec.vocabulary.bytes_of(ids) != character.encode():
                return Refusal(
                    "{file}: this model's tokenizer cannot write {character!r}; take another model.",
                    file=source.name,
                    character=character,
                )
        return Refusal(
            "{file}: this model's tokenizer changes the text, for instance its spaces; take another model.",
            file=source.name,
        )
    raise AssertionError("every piece was written")


@contextmanager
def locked(part: Path) -> Iterator[None]:
    """While it is locked, `part` is being written by a living process; the lock dies with it."""
    with (part / LOCK).open("wb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
        (part / LOCK).unlink()


def remove_leftovers(cache: Path) -> None:
    """Remove the hidden folders that killed processes left in `cache`: nobody holds their lock."""
    for lock in cache.glob(f".*/{LOCK}") if fcntl is not None else ():
        with suppress(OSError), lock.open("rb") as file:
            if time.time() - lock.stat().st_mtime < YOUNG:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in (TOKENS, ENDS, ABOUT, LOCK):
                (lock.parent / name).unlink(missing_ok=True)
            os.rmdir(lock.parent)
