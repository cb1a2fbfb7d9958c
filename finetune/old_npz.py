"""Old encodings: the .npz of nshepperd's encode.py and of gpt-2-simple, one array of token ids per chunk of text."""

import codecs
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from generate import Refusal, Vocabulary

COUNT = 2**18  # ids read at once
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, RuntimeError)


def read_npz(file: Path, vocabulary: Vocabulary | None, end: str, progress: Callable[[int], None]) -> Iterator[str]:
    """The text that the ids of all chunks spell, in blocks, with `end` after each chunk.

    A chunk is one or more whole files: these tools joined small ones with the marker, and wrote none after the last.
    It becomes text again because they wrote `<|endoftext|>` as text, whose tokens depend on its neighbours (".<" can be
    one token); encoded again, the rest gets the ids that it had. Raises Refusal for what is damaged, holds objects or
    floats, or is of another vocabulary. Source: load_dataset.py of nshepperd/gpt-2 and minimaxir/gpt-2-simple.
    """
    if vocabulary is None:
        raise Refusal("{file} holds token ids; they can be read with their tokenizer only.", file=file.name)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    try:
        for ids in id_blocks(file, len(vocabulary), progress):
            if ids is None:
                yield decoder.decode(b"", True) + end
            else:
                text = decoder.decode(vocabulary.bytes_of(ids.tolist()))
                if "\0" in text:
                    raise Refusal("{file}: its ids spell a NUL character, which no text has.", file=file.name)
                yield text
    except UnicodeDecodeError:
        raise Refusal(
            "{file}: its ids spell no text with this model's tokenizer; it was encoded for another model.",
            file=file.name,
        ) from None


def id_blocks(file: Path, vocab_size: int, progress: Callable[[int], None]) -> Iterator[np.ndarray | None]:
    """The ids of all arrays in order, at most COUNT at a time, each in 0..vocab_size - 1; None where an array ends."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    for ids in array_blocks(file, member.filename, stream):
                        check_ids(file, ids, vocab_size)
                        yield ids
                yield None
                progress(member.compress_size)
    except Refusal:
        raise
    except BROKEN as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refusal(
            "{file} is no .npz of token ids, or damaged ({reason:.200}); copy it again.", file=file.name, reason=reason
        ) from None


def array_blocks(file: Path, name: str, stream: IO[bytes]) -> Iterator[np.ndarray]:
    """One array of integers, [ids], read in blocks."""
    shape, dtype = header(stream)
    if dtype.kind not in "iu" or len(shape) != 1:
        if dtype.hasobject:
            raise Refusal(
                "{file}: {name} holds objects; an encoding holds plain rows of whole numbers.",
                file=file.name,
                name=name,
            )
        raise Refusal(
            "{file}: {name} holds {dtype} of shape {shape}; an encoding holds plain rows of whole numbers.",
            file=file.name,
            name=name,
            dtype=dtype,
            shape=list(shape),
        )
    left = shape[0]
    while left:
        wanted = min(left, COUNT) * dtype.itemsize
        data = stream.read(wanted)
        if len(data) < wanted:
            raise EOFError(f"{name} is cut short")
        yield np.frombuffer(data, dtype)
        left -= len(data) // dtype.itemsize


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array; raises ValueError when that cannot be read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(stream)
    except Exception as error:  # numpy lets those of Python's tokenize and ast through
        raise ValueError(f"the header of an array: {error}") from None
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {list(shape)}")
    return shape, dtype


def check_ids(file: Path, ids: np.ndarray, vocab_size: int) -> None:
    """Refuse ids [n] of which one is not in 0..vocab_size - 1."""
    if ids.min() < 0 or ids.max() >= vocab_size:
        wrong = int(ids.min() if ids.min() < 0 else ids.max())
        raise Refusal(
            "{file} holds the id {id}, but this model's tokenizer has {tokens} tokens; it was encoded for another "
            "model.",
            file=file.name,
            id=wrong,
            tokens=vocab_size,
        )
