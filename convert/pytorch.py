"""PyTorch's files: `pytorch_model.bin` and its shards, the headless `gpt2-pytorch_model.bin` that gpt-2-flask-api served,
what trainers save, and nanoGPT's ckpt.pt.

They are pickles, so they are read with `weights_only=True`, which builds tensors and runs nothing.
"""

import pickle
import re
import warnings
from pathlib import Path

import numpy as np

from convert.held import Held, Tensor, hold
from convert.names import HEAD, NAMES
from convert.nanogpt import TURNED, nanogpt_config
from generate import Problem, Refusal, plain_name, read_object, refuse_mistaken

ENDINGS = (".bin", ".pt", ".pth")
INDEX = "pytorch_model.bin.index.json"
KNOWN = ("pytorch_model.bin", INDEX, "gpt2-pytorch_model.bin", "ckpt.pt")
MOST_SHARDS = 1000
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
)  # as Lightning, many loops, fairseq and DeepSpeed call it
SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(?:bin|pt|pth|safetensors)")
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
COLOUR = re.compile("\x1b\\[[0-9;]*m")
FORBIDDEN = re.compile(r"GLOBAL\s+([\w.]+)")
LAYER = re.compile(r"h\.(0|[1-9][0-9]{0,3})\.")
OPENAI = {new: old for old, new in NAMES.items()}
SHORT = {"g": "weight", "w": "weight", "b": "bias"}  # as the first ports still spelled them


def is_pytorch(file: Path) -> bool:
    """Whether a path is a file of PyTorch's, by its name; Lightning's .ckpt, as TensorFlow's have that name too, by its
    first bytes."""
    lightning = file.suffix == ".ckpt" and file.is_file() and starts_with(file, ZIP, PICKLE)
    return file.is_file() and (file.suffix in ENDINGS or file.name == INDEX or lightning)


def open_pytorch(file: Path) -> Held:
    """Open a state dict, or all of one's shards, or a checkpoint that holds one; raises Refusal when there is none, or
    for anything that is no tensor where one should be."""
    files = shards_of(file)
    if len(files) == 1:
        state = load(file)
        if is_nanogpt(state):
            return open_nanogpt(file, state)
        state = unwrapped(file, state)
    else:
        state = {name: tensor for part in files for name, tensor in unwrapped(part, load(part)).items()}
    return hold(file, named(file, {name: tensor_of(file, name, value) for name, value in state.items()}))


def shards_of(file: Path) -> list[Path]:
    """All files of the model that `file` is one of, or the index; raises Refusal where one is missing."""
    folder = file.parent
    if file.name == INDEX:
        listed = read_object(file).get("weight_map")
        names = sorted(set(listed.values())) if isinstance(listed, dict) and listed else []
        if not names or not all(isinstance(name, str) and SHARD.fullmatch(name) for name in names):
            raise Refusal("{file} does not list the files of a model; copy it again.", file=file.name)
    elif (found := SHARD.fullmatch(file.name)) is not None:
        count = min(int(found[2]), MOST_SHARDS)
        names = [f"{found[1]}-{n:05d}-of-{found[2]}{file.suffix}" for n in range(1, count + 1)]
    else:
        return [file]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise Refusal(
            "{file} is missing, one of the {count} files of a model that was saved in pieces; put all of them into one folder.",
            file=missing[0],
            count=len(names),
        )
    return [folder / name for name in names]


def load(file: Path) -> object:
    """What a file of PyTorch's holds, as far as it is tensors and plain values; raises Refusal."""
    import torch

    refuse_mistaken(file, weights=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other programs, which are refused below
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip(file))
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


def unwrapped(file: Path, state: object) -> dict:
    """The dictionary of tensors in what a trainer saved: itself, or under one of the names that trainers give it."""
    import torch

    for _ in WRAPPERS:
        inner = [state[name] for name in WRAPPERS if name in state] if isinstance(state, dict) else []
        inner = [value for value in inner if isinstance(value, dict) and value]
        if not inner:
            break
        state = inner[0]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise Refusal("{file} holds something else than a plain dictionary of tensors.", file=file.name)
    return state


def tensor_of(file: Path, name: object, value) -> Tensor:
    """A tensor of PyTorch's as it is stored; raises Refusal where it claims to be more than that."""
    import torch

    stored = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not stored or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise Refusal("{file}: {name!r:.80} is no plain tensor that is stored whole.", file=file.name, name=str(name))
    data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy() if value.numel() else np.zeros(0, np.uint8)
    return Tensor(str(value.dtype).removeprefix("torch."), tuple(value.shape), data)


def named(file: Path, tensors: dict[object, Tensor]) -> dict[str, Tensor]:
    """The same by OpenAI's names; raises Refusal where two are the same."""
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = openai_name(str(key))
        if name in found:
            raise Refusal("{file}: there are two of {name}; keep one.", file=file.name, name=str(key))
        found[name] = tensor
    return found


def is_nanogpt(state: object) -> bool:
    """Whether a checkpoint is one of nanoGPT's: weights, and what they were made with."""
    return (
        isinstance(state, dict) and isinstance(state.get("model"), dict) and isinstance(state.get("model_args"), dict)
    )


def open_nanogpt(file: Path, state: dict) -> Held:
    """nanoGPT's ckpt.pt; its Linear keeps [out, in], where GPT-2 as `transformers` has it keeps [in, out]."""
    tensors = {}
    for key, value in unwrapped(file, state["model"]).items():
        turned = value.t() if plain_name(str(key)).endswith(TURNED) and value.dim() == 2 else value
        tensors[key] = tensor_of(file, key, turned.contiguous())
    return hold(file, named(file, tensors), nanogpt_config(state["model_args"]))


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
    plain = plain_name(key)
    if plain == "lm_head.weight":
        return HEAD
    stem, _, last = plain.rpartition(".")
    plain = f"{stem}.{SHORT[last]}" if last in SHORT else plain
    layer = LAYER.match(plain)
    pattern = LAYER.sub("h.{}.", plain, count=1) if layer else plain
    return OPENAI[pattern].format(layer[1] if layer else "") if pattern in OPENAI else key
