"""Where the weights of a folder lie: in model.safetensors, or in shards; and each tensor in them by its plain name."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from generate.errors import Refusal
from generate.folders.json_files import read_json
from generate.folders.strangers import refuse_adapter, refuse_other_files
from generate.mistaken import mistake

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
# What `transformers` and trainers put before a name: DistributedDataParallel, torch.compile, a model within another.
PREFIX = re.compile(r"(?:module\.|_orig_mod\.|model\.|transformer\.)+")
PYTORCH = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "gpt2-pytorch_model.bin",
    "ckpt.pt",
)  # what `convert` reads


@dataclass(frozen=True)
class Stored:
    """One tensor: its file, its name there, its shape, and its type as safetensors has it (F32, BF16, ...)."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str


def plain_name(key: str) -> str:
    """A tensor's name without whatever prefixes stand before it."""
    return PREFIX.sub("", key, count=1) if PREFIX.match(key) else key


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files of a folder's weights in order: model.safetensors, else the shards; raises Refusal where one is missing."""
    if (path / WHOLE).is_file():
        return (path / WHOLE,)
    names = listed_shards(path) if (path / INDEX).is_file() else found_shards(path)
    if not names:
        refuse_other_form(path)
    for name in names:
        if not (path / name).is_file():
            raise Refusal(
                "{model}: {name} is missing, one of the {count} files of its weights; copy it from where the model came from.",
                model=path.name,
                name=name,
                count=len(names),
            )
    return tuple(path / name for name in names)


def listed_shards(path: Path) -> list[str]:
    """The shards that the index lists; raises Refusal where it is no index of shards."""
    places = read_json(path, INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise Refusal(
            "{model}: {index} does not say which tensor is in which file; copy it again.", model=path.name, index=INDEX
        )
    names = sorted(set(places.values()))
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):  # it must not lead out of the folder
            raise Refusal(
                "{model}: {index} names {name!r:.80}, which is no safetensors file of the folder.",
                model=path.name,
                index=INDEX,
                name=name,
            )
    return names


def found_shards(path: Path) -> list[str]:
    """All shards that there must be, by the name of one of them; [] where there is none."""
    counts = {int(found[2]) for file in path.iterdir() if (found := SHARD.fullmatch(file.name))}
    if len(counts) > 1:
        raise Refusal(
            "{model}: its shards are of several models, of {counts} files; keep those of one.",
            model=path.name,
            counts=", ".join(map(str, sorted(counts))),
        )
    return [f"model-{n:05d}-of-{count:05d}.safetensors" for count in counts for n in range(1, min(count, 1000) + 1)]


def refuse_other_form(path: Path) -> None:
    """Raise Refusal for a folder without safetensors, and say what to do with what it has."""
    others = [name for name in PYTORCH if (path / name).is_file()]
    others += sorted(file.name for file in path.glob("pytorch_model-*-of-*.bin"))
    if others:
        raise Refusal(
            "{model}: its weights are in {file}, which is of PyTorch; `python -m convert {path} models/NAME` makes a model "
            "of them that can be served.",
            model=path.name,
            file=others[0],
            path=path,
        )
    refuse_adapter(path)
    refuse_other_files(path)
    raise Refusal(
        "{model}: model.safetensors is missing; weights in another form must be saved as safetensors first (in "
        "transformers: model.save_pretrained).",
        model=path.name,
    )


def stored_tensors(model: str, files: Iterable[Path]) -> dict[str, Stored]:
    """Every tensor of some files by its plain name, from their headers alone; raises Refusal, naming the `model`."""
    found: dict[str, Stored] = {}
    for tensor in (tensor for file in files for tensor in read_header(model, file)):
        name = plain_name(tensor.key)
        if name in found:
            raise Refusal(
                "{model}: {first} and {second} are both {name}; keep one of them.",
                model=model,
                first=found[name].key,
                second=tensor.key,
                name=name,
            )
        found[name] = tensor
    return found


def read_header(model: str, file: Path) -> Iterator[Stored]:
    """The tensors of one file; raises Refusal where it is none of safetensors', or cut short."""
    if (instead := mistake(file, weights=True)) is not None:
        raise Refusal("{model}: {file} {mistake}", model=model, file=file.name, mistake=instead)
    try:
        with safe_open(str(file), "numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                part = tensors.get_slice(key)
                yield Stored(file, key, tuple(part.get_shape()), part.get_dtype())
    except SafetensorError as error:
        raise Refusal(
            "{model}: {file} is damaged or cut short ({reason}); copy it again.",
            model=model,
            file=file.name,
            reason=error,
        ) from None
