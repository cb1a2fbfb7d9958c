"""PyTorch's old files: `pytorch_model.bin`, and the headless `gpt2-pytorch_model.bin` that gpt-2-flask-api served.

They are pickles, so they are read with `weights_only=True`, which builds tensors and runs nothing. They are shown to the
rest of the converter as a bundle of OpenAI's variables.
"""

import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.bundle import Bundle, Piece, Variable, check_shape
from convert.names import NAMES
from convert.table import masked_crc
from generate import Problem, Refusal, refuse_mistaken

ENDINGS = (".bin", ".pt", ".pth")
KNOWN = ("pytorch_model.bin", "gpt2-pytorch_model.bin")
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(?:bin|pt|pth|safetensors)")
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
COLOUR = re.compile("\x1b\\[[0-9;]*m")
FORBIDDEN = re.compile(r"GLOBAL\s+([\w.]+)")
LAYER = re.compile(r"h\.(0|[1-9][0-9]{0,3})\.")
OPENAI = {new: old for old, new in NAMES.items()}
SHORT = {"g": "weight", "w": "weight", "b": "bias"}  # as the first ports still spelled them


@dataclass(frozen=True)
class Pickled(Bundle):
    """A bundle whose tensors come from a PyTorch file that stays memory-mapped."""

    arrays: dict[str, np.ndarray]

    def check(self, name: str) -> None:
        """Refuse a variable whose type, shape and size contradict each other."""
        check_shape(self.variables[name])

    def read(self, name: str) -> Iterator[tuple[tuple[tuple[int, int], ...], np.ndarray]]:
        """Yield the whole of a variable as its one piece: extents, and its raw bytes, uint8."""
        yield self.variables[name].pieces[0].extents, self.arrays[name]


def open_pytorch(file: Path) -> Pickled:
    """Open a state dict; raises Refusal when it is none, or holds anything but tensors."""
    import torch

    refuse_mistaken(file, weights=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other programs, which are refused below
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip(file))
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        raise Refusal(
            "{file} cannot be read as PyTorch weights ({reason}).", file=file.name, reason=why_not(file, error)
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise Refusal("{file} holds something else than a plain dictionary of tensors.", file=file.name)
    for key, tensor in state.items():
        stored = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not stored or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise Refusal(
                "{file}: {name!r:.80} is no plain tensor that is stored whole.", file=file.name, name=str(key)
            )
    variables, arrays = {}, {}
    for key, tensor in state.items():
        name = openai_name(str(key))
        shape = tuple(tensor.shape)
        if name.endswith("/w"):
            shape = (1, *shape)
        array = (
            tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            if tensor.numel()
            else np.zeros(0, np.uint8)
        )
        pieces = (Piece(0, 0, array.size, 0, tuple((0, length) for length in shape)),)
        variables[name] = Variable(name, str(tensor.dtype).removeprefix("torch."), shape, pieces)
        arrays[name] = array
    refuse_other_head(file, variables, arrays)
    return Pickled(file, 1, with_checksums(variables, arrays), arrays)


def why_not(file: Path, error: Exception) -> Problem:
    """What is wrong with the file. torch itself tells how to run what is in it, which nobody should."""
    text = COLOUR.sub("", str(error))
    if (found := FORBIDDEN.search(text)) is not None:
        return Problem(
            "it holds {name:.80}, and only tensors are ever unpickled; save the model's state_dict() alone",
            name=found[1],
        )
    if "legacy .tar format" in text:
        return Problem("it is in PyTorch's oldest format, a .tar; load it there and save it again")
    if isinstance(error, pickle.UnpicklingError) and starts_with(file, PICKLE, ZIP):
        return Problem("it holds more than tensors, and nothing else is ever unpickled")
    return Problem("it is damaged, or of another program; copy it again")


def is_zip(file: Path) -> bool:
    """Only PyTorch's newer files, which are zip archives, can be memory-mapped."""
    return starts_with(file, ZIP)


def starts_with(file: Path, *beginnings: bytes) -> bool:
    """Whether a file begins with one of these; each is at most 4 bytes long."""
    with file.open("rb") as stream:
        return stream.read(4).startswith(beginnings)


def openai_name(key: str) -> str:
    """OpenAI's name of a tensor where it is one of GPT-2's, else the key itself."""
    plain = key.removeprefix("transformer.")
    stem, _, last = plain.rpartition(".")
    plain = f"{stem}.{SHORT[last]}" if last in SHORT else plain
    layer = LAYER.match(plain)
    pattern = LAYER.sub("h.{}.", plain, count=1) if layer else plain
    return OPENAI[pattern].format(layer[1] if layer else "") if pattern in OPENAI else key


def refuse_other_head(file: Path, variables: dict[str, Variable], arrays: dict[str, np.ndarray]) -> None:
    """An lm_head must be the embedding; it is then no tensor of its own."""
    if "lm_head.weight" in variables and "model/wte" in variables:
        if not np.array_equal(arrays["lm_head.weight"], arrays["model/wte"]):
            raise Refusal(
                "{file}: lm_head.weight differs from wte.weight; GPT-2 ties them, so this is another model.",
                file=file.name,
            )
        del variables["lm_head.weight"], arrays["lm_head.weight"]


def with_checksums(variables: dict[str, Variable], arrays: dict[str, np.ndarray]) -> dict[str, Variable]:
    """The variables with a checksum of their bytes, for the manifest."""
    return {
        name: Variable(v.name, v.dtype, v.shape, (Piece(0, 0, v.size, masked_crc(arrays[name]), v.pieces[0].extents),))
        for name, v in variables.items()
    }
