"""The models at hand: the folders of `models/`, looked at anew whenever a file in them changes. No torch in here."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from generate import files
from generate.errors import Problem, Refusal
from generate.folders.contract import check_folder
from generate.folders.model_folder import ModelFolder, signature


@dataclass(frozen=True)
class Listed:
    """One folder of `models/` as the page shows it: either `folder`, or the `problem` that keeps it from being used."""

    name: str
    folder: ModelFolder | None
    problem: Problem | None


def models_folder(settings: Mapping) -> Path:
    """The user's folder, with one folder per model: RUBRIC_MODELS, else the one that `generate/files.py` names."""
    return Path(settings["RUBRIC_MODELS"] or files.MODELS).resolve()


def model_homes(root: Path) -> list[Path]:
    """Where a model of `root` may lie, first things first: of an installed Rubric, the shipped ones are listed besides."""
    shipped = files.SHIPPED_MODELS.resolve()
    return [root, shipped] if root == files.MODELS.resolve() != shipped else [root]


def list_models(root: Path, hidden: Collection[str] = ()) -> list[Listed]:
    """All folders under `root` (and its other homes) but the hidden ones, by name, checked anew only when a file in them
    changed."""
    return [look_of(path).listed() for _, path in sorted(folders_of(root, hidden).items())]


def folders_of(root: Path, hidden: Collection[str] = ()) -> dict[str, Path]:
    """The folders under `root` (and its other homes) by name, whatever is in them, but those that are `hidden`."""
    paths = (path for home in model_homes(root) if home.is_dir() for path in home.iterdir())
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir() and not path.name.startswith(".") and path.name not in hidden:
            found.setdefault(path.name, path)  # the user's own goes before a shipped one of its name
    return found


def find_model(root: Path, name: str, hidden: Collection[str] = ()) -> ModelFolder:
    """The model called `name` under `root`; raises Refusal when there is none, or it does not keep the contract. Of those
    that are `hidden` it is as if they were not there."""
    if (path := folders_of(root, hidden).get(name)) is not None:  # the others need no look
        listed = look_of(path).listed()
        if listed.folder is None:
            raise Refusal("The model {name} cannot be used: {reason}", "model", name=name, reason=listed.problem)
        return listed.folder
    known = ", ".join(item.name for item in list_models(root, hidden) if item.folder)
    if not known:
        raise Refusal("There is no model called {name!r} here, nor any other.", "model", name=name[:80])
    raise Refusal(
        "There is no model called {name!r} here; the models are: {known}.", "model", name=name[:80], known=known
    )


def find_model_or_path(root: Path, name: str) -> ModelFolder:
    """The model called `name` under `root`, else the one that lies in the folder `name`; raises Refusal."""
    path = Path(name)
    if not path.is_dir() or name in folders_of(root):
        return find_model(root, name)
    found = look_of(path.resolve()).listed()
    if found.folder is None:
        raise Refusal("--model {path} cannot be used: {reason}", "model", path=name[:80], reason=found.problem)
    return found.folder


class Look:
    """What was found in a folder when it was last looked at; nothing older is kept, as a tokenizer takes megabytes."""

    def __init__(self, path: Path):
        self._path = path
        self._last: tuple[tuple, Listed] | None = None

    def listed(self) -> Listed:
        """What is in the folder now."""
        last, seen = self._last, signature(self._path)
        if last is None or last[0] != seen:
            last = self._last = seen, look_at(self._path)
        return last[1]


look_of = lru_cache(maxsize=4096)(Look)


def look_at(path: Path) -> Listed:
    """Check one folder, or say in a sentence what is wrong with it."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    if name != path.name:
        return Listed(name, None, Problem("{name}: the folder's name is not UTF-8; rename it.", name=name))
    try:
        return Listed(name, check_folder(path), None)
    except Refusal as refusal:
        return Listed(name, None, refusal.problem)
    except OSError as error:
        problem = Problem(
            "{name}: a file cannot be read ({reason}); check its permissions.", name=name, reason=error.strerror
        )
        return Listed(name, None, problem)
