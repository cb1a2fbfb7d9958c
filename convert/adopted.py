"""A folder of `transformers`' becomes a model as it is: its files are copied, and checked as those of any model."""

import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from convert.source import folders_that
from generate import check_folder, check_target, in_place_of, read_object, write_json

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PARTS = (
    *("config.json", "generation_config.json", *WEIGHTS, "model-*-of-*.safetensors"),
    *("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer_config.json", "added_tokens.json"),
    *("special_tokens_map.json", "rubric.json", "examples.json", "run.json", "README.md", "LICENSE*"),
)
CHUNK = 8 * 2**20


def is_part(name: str) -> bool:
    """Whether a file belongs to such a folder. A certificate does not: it is of a conversion that was made elsewhere."""
    return any(fnmatch(name, pattern) for pattern in PARTS)


def holds_model(names: list[str]) -> bool:
    """Whether a folder with files of these names is one of `transformers`'."""
    return "config.json" in names and any(name in names for name in WEIGHTS)


def model_folders(root: Path) -> list[Path]:
    """The folders of `transformers`' from `root` down, not the hidden ones."""
    return folders_that(holds_model, root)


def adopt(folder: Path, target: Path, force: bool, origin: str, progress: Callable[[int], None]) -> None:
    """Copy a folder of `transformers`' to `target`, whole or not at all; raises Refusal where it is no model that can be
    served. `origin` is what it says of where it is from, if it says nothing itself; `progress` gets the bytes that were copied."""
    check_target(target, force, folder)
    with in_place_of(target) as part:
        for file in sorted(file for file in folder.iterdir() if is_part(file.name) and file.is_file()):
            copy(file, part / file.name, progress)
        manifest = part / "rubric.json"
        told = read_object(manifest) if manifest.exists() else {"format": 1, "source": origin}
        told.pop("measured", None)  # on another's machine, if at all
        write_json(manifest, told)
        check_folder(part).fingerprint()


def copy(source: Path, target: Path, progress: Callable[[int], None]) -> None:
    """Copy a file, a piece at a time."""
    with source.open("rb") as old, target.open("wb") as new:
        while piece := old.read(CHUNK):
            new.write(piece)
            progress(len(piece))
    shutil.copymode(source, target)
