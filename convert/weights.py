"""Writing model.safetensors piece by piece: never more than a chunk of it in memory.

Source: huggingface/safetensors, README.md, "Format".
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import ml_dtypes
import numpy as np

from convert.bundle import WIDTH, Bundle
from convert.names import stored_name, to_transformers
from generate import Refusal

CHUNK = 8 * 2**20  # bytes handled at a time
FLOATS = {"float32": "<f4", "float16": "<f2", "bfloat16": ml_dtypes.bfloat16, "float64": "<f8"}  # as numpy has them
SAFETENSORS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


@dataclass(frozen=True)
class Written:
    """What was written: the file's sha256 and each tensor's (place, bytes, crc32c)."""

    fingerprint: str
    tensors: dict[str, tuple[int, int, int]]


def write_weights(bundle: Bundle, file: Path, dtype: str | None, progress: Callable[[int], None]) -> Written:
    """Write every GPT-2 variable to `file` in `dtype` (None: as stored), flushed to disk.

    Raises Refusal, naming the variable, for a wrong checksum, a shape that does not fit, NaN or infinity.
    """
    names = dict(sorted(to_transformers(bundle.variables).items(), key=lambda pair: pair[1]))
    header, place, tensors = {"__metadata__": {"format": "pt"}}, 0, {}
    for old, new in names.items():
        variable = bundle.variables[old]
        kind = dtype or variable.dtype
        shape = variable.shape[1:] if len(variable.shape) == 3 else variable.shape
        size = math.prod(shape) * WIDTH[kind]
        header[stored_name(new)] = {
            "dtype": SAFETENSORS[kind],
            "shape": shape,
            "data_offsets": [place, place + size],
        }
        place += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    digest, start = hashlib.sha256(), 8 + len(head)
    with file.open("wb") as out:
        for part in (len(head).to_bytes(8, "little"), head):
            out.write(part)
            digest.update(part)
        for old, new in names.items():
            crc, begun = 0, out.tell()
            for chunk in chunks(bundle, old, dtype):
                out.write(chunk)
                digest.update(chunk)
                crc = google_crc32c.extend(crc, chunk)
                progress(len(chunk))
            tensors[new] = (begun, out.tell() - begun, crc)
        out.flush()
        os.fsync(out.fileno())
    if file.stat().st_size != start + place:
        raise Refusal(
            "{file} came out with {size:,} bytes instead of {wanted:,}.",
            file=file.name,
            size=file.stat().st_size,
            wanted=start + place,
        )
    return Written(digest.hexdigest(), tensors)


def chunks(bundle: Bundle, name: str, dtype: str | None) -> Iterator[np.ndarray]:
    """The bytes of a variable in order, in `dtype`, as uint8 arrays of at most CHUNK bytes or so."""
    variable = bundle.variables[name]
    pieces = list(bundle.read(name))
    sources = [pieces[0][1]] if len(pieces) == 1 else joined(pieces, variable.shape, WIDTH[variable.dtype])
    for source in sources:
        for low in range(0, len(source), CHUNK):
            part = source[low : low + CHUNK]
            if not is_finite(part, variable.dtype):
                raise Refusal(
                    "{name} holds NaN or infinity; the training run went wrong before this was saved.", name=name
                )
            part = part if dtype in (None, variable.dtype) else cast(part, variable.dtype, dtype)
            if not is_finite(part, dtype or variable.dtype):
                raise Refusal(
                    "{name} holds numbers too large for {dtype}; convert with --dtype float32.", name=name, dtype=dtype
                )
            yield part


def joined(pieces: list, shape: tuple[int, ...], width: int) -> Iterator[np.ndarray]:
    """Rows of a sliced variable put together, one by one; `pieces` cover `shape` exactly."""
    arrays = [(extents, data.reshape([*(n for _, n in extents[:-1]), -1])) for extents, data in pieces]
    for row in range(shape[0]):
        out = np.empty([*shape[1:-1], shape[-1] * width] if len(shape) > 1 else [width], np.uint8)
        for extents, data in arrays:
            (begin, length), rest = extents[0], extents[1:]
            if begin <= row < begin + length:
                if len(shape) == 1:
                    out[:] = data[(row - begin) * width : (row - begin + 1) * width]
                    continue
                last = slice(rest[-1][0] * width, (rest[-1][0] + rest[-1][1]) * width)
                out[(*(slice(s, s + n) for s, n in rest[:-1]), last)] = data[row - begin]
        yield out.reshape(-1)


def is_finite(data: np.ndarray, dtype: str) -> bool:
    """Whether raw bytes hold no NaN and no infinity."""
    return bool(np.isfinite(data.view(FLOATS[dtype])).all())


def cast(data: np.ndarray, old: str, new: str) -> np.ndarray:
    """Convert raw bytes between float types, rounding to nearest even."""
    with np.errstate(over="ignore", invalid="ignore"):
        return data.view(FLOATS[old]).astype(FLOATS[new]).view(np.uint8)


def read_back(file: Path, written: Written) -> None:
    """Read the file again and compare it with what was written, tensor by tensor."""
    digest = hashlib.sha256()
    tensors = iter(sorted(written.tensors.items(), key=lambda item: item[1][0]))
    with file.open("rb") as stream:
        place = min(begin for begin, _, _ in written.tensors.values())
        digest.update(stream.read(place))
        for name, (_, size, crc) in tensors:
            found, left = 0, size
            while left:
                chunk = stream.read(min(CHUNK, left))
                if not chunk:
                    break
                digest.update(chunk)
                found = google_crc32c.extend(found, chunk)
                left -= len(chunk)
            if found != crc or left:
                raise Refusal(
                    "{name} reads back differently from {path}; the disk is full or failing.", name=name, path=file
                )
    if digest.hexdigest() != written.fingerprint:
        raise Refusal("{path} reads back differently from what was written; the disk is full or failing.", path=file)
