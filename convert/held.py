"""Checkpoints that are not TensorFlow's, shown to the rest of the converter as a bundle of OpenAI's variables."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from convert.bundle import Bundle, Piece, Variable, check_shape
from convert.names import HEAD, LAYER, NAMES
from convert.table import masked_crc

BIASES = tuple(name for name in NAMES if name.endswith("/b"))


@dataclass(frozen=True)
class Tensor:
    """A tensor as it was stored: its type in numpy's name, its shape, and its raw bytes, uint8."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray


@dataclass(frozen=True)
class Held(Bundle):
    """A bundle whose tensors are in memory, or mapped into it. `told` is what the file itself says of the model, in the
    names of config.json."""

    arrays: dict[str, np.ndarray]
    told: dict = field(default_factory=dict)

    def check(self, name: str) -> None:
        """Refuse a variable whose type, shape and size contradict each other."""
        check_shape(self.variables[name])

    def read(self, name: str) -> Iterator[tuple[tuple[tuple[int, int], ...], np.ndarray]]:
        """Yield the whole of a variable as its one piece: extents, and its raw bytes, uint8."""
        yield self.variables[name].pieces[0].extents, self.arrays[name]


def hold(file: Path, tensors: dict[str, Tensor], told: dict | None = None) -> Held:
    """A bundle of tensors that have OpenAI's names and the shapes of `transformers`; others are kept, to be told of.

    Biases that no layer has are zeros, and a head that repeats the embedding is left out.
    """
    tensors = tensors | zero_biases(tensors)
    head, embedding = tensors.get(HEAD), tensors.get("model/wte")
    if head and embedding and head.shape == embedding.shape and np.array_equal(head.data, embedding.data):
        del tensors[HEAD]
    variables, arrays = {}, {}
    for name, tensor in tensors.items():
        shape = (1, *tensor.shape) if name.endswith("/w") else tensor.shape
        extents = tuple((0, length) for length in shape)
        piece = Piece(0, 0, tensor.data.size, masked_crc(tensor.data), extents)  # a checksum for the manifest
        variables[name] = Variable(name, tensor.dtype, shape, (piece,))
        arrays[name] = tensor.data
    return Held(file, 1, variables, arrays, told or {})


def zero_biases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Zeros in the place of each kind of bias that is nowhere in a model, as where it was made with bias=False."""
    layers = sorted({found[1] for name in tensors if (found := LAYER.match(name))})
    zeros = {}
    for pattern in BIASES:
        names = [pattern.format(layer) for layer in layers] if "{}" in pattern else [pattern]
        if not any(name in tensors for name in names):
            zeros |= {name: made for name in names if (made := zeros_beside(tensors, name)) is not None}
    return zeros


def zeros_beside(tensors: dict[str, Tensor], name: str) -> Tensor | None:
    """A bias of zeros as wide as the matrix or the gain that it belongs to; None where that is missing too."""
    owner = first(tensors, (name[:-1] + "w", name[:-1] + "g"))
    if owner is None or not owner.shape:
        return None
    width = owner.shape[-1]
    size = owner.data.size * width // max(1, int(np.prod(owner.shape)))
    return Tensor(owner.dtype, (width,), np.zeros(size, np.uint8))


def first(tensors: dict[str, Tensor], names: Iterable[str]) -> Tensor | None:
    """The first of some tensors that is there."""
    return next((tensors[name] for name in names if name in tensors), None)
