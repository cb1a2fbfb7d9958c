"""Where the bytes of a model folder's tensors lie, to be read a piece at a time."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from convert.weights import CHUNK, cast
from generate import ModelFolder, plain_name

NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie, and of what type they are."""

    file: Path
    begin: int
    size: int
    dtype: str


def parts_of(place: Place | None, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The bytes of a tensor in float32, some at a time; zeros for a bias that the model was made without."""
    if place is None:
        yield np.zeros(math.prod(shape), "<f4").view(np.uint8)
        return
    data = np.memmap(place.file, np.uint8, "r", place.begin, place.size)
    for low in range(0, place.size, CHUNK):
        chunk = data[low : low + CHUNK]
        yield chunk if place.dtype == "float32" else cast(chunk, place.dtype, "float32")


def tensor_places(folder: ModelFolder) -> dict[str, Place]:
    """Where each tensor of a checked folder lies, by its plain name."""
    found = {}
    for file in folder.weights:
        with safe_open(str(file), "numpy"):  # the library checks the header; the places it keeps to itself
            pass
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        for key, facts in header.items():
            begin, end = facts["data_offsets"]
            if facts["dtype"] in NAMES:
                found[plain_name(key)] = Place(file, 8 + size + begin, end - begin, NAMES[facts["dtype"]])
    return found


def has_head(places: Mapping[str, Place]) -> bool:
    """Whether a model has a head that is not its embedding."""
    head, embedding = places.get(HEAD), places["wte.weight"]
    if head is None:
        return False
    one, other = (np.memmap(place.file, np.uint8, "r", place.begin, place.size) for place in (head, embedding))
    return (head.dtype, head.size) != (embedding.dtype, embedding.size) or not np.array_equal(one, other)
