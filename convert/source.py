"""From whatever a person holds to the prefix of one checkpoint and the files beside it."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from convert.pytorch import ENDINGS, KNOWN, SHARD, is_pytorch
from convert.table import MAGIC
from generate import Refusal, refuse_adapter, refuse_other_files

PARTS = re.compile(r"(.+)\.(index|meta|data-\d{5,}-of-\d{5,})")
STEP = re.compile(r"(.+)-(\d+)")
GGUF = ".gguf"
DEPTH, MOST_FOLDERS = 3, 2000  # how far is looked for a checkpoint below a folder
STATE = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.M)


def is_gguf(file: Path) -> bool:
    """Whether a path is a GGUF by its name."""
    return file.suffix == GGUF and file.is_file()


@dataclass(frozen=True)
class Source:
    """One checkpoint: its prefix, and hparams.json and the vocabulary where they lie beside it."""

    prefix: Path
    steps: tuple[int, ...]

    @property
    def is_tensorflow(self) -> bool:
        """Whether it is a checkpoint of TensorFlow's, and not one file of another program."""
        return not is_pytorch(self.prefix) and not self.is_gguf

    @property
    def is_gguf(self) -> bool:
        """Whether it is a file of llama.cpp's."""
        return is_gguf(self.prefix)

    @property
    def step(self) -> int | None:
        """The step in the prefix's name, if it has one."""
        found = STEP.fullmatch(self.prefix.name)
        return int(found[2]) if found else None

    def beside(self, name: str) -> Path | None:
        """The file of this name in the checkpoint's folder, if it is there."""
        file = self.prefix.parent / name
        return file if file.is_file() else None


def find_source(given: Path, step: int | None = None) -> Source:
    """`given` is a folder (or one above it), a checkpoint's prefix, any of its files, a `checkpoint` state file, or a PyTorch
    file."""
    if is_pytorch(given) or is_gguf(given):
        return Source(given, ())
    if given.is_file():
        refuse_other_files(given)
    if given.is_file() and (given.suffix == ".safetensors" or given.name == "model.safetensors.index.json"):
        raise Refusal(
            "{file} is of a model of `transformers` already; copy its folder into models/ as it is.", file=given.name
        )
    if given.is_dir():
        given = descend(given)
        old = [given / name for name in KNOWN if (given / name).is_file()]
        old += sorted(file for file in given.iterdir() if SHARD.fullmatch(file.name) and is_pytorch(file))
        old += sorted(given.glob(f"*{GGUF}"))
        if old and not any(given.glob("*.index")):
            return Source(old[0], ())
        prefix = from_folder(given, step)
    elif given.name == "checkpoint" and given.is_file():
        prefix = from_folder(given.parent, step)
    elif (parts := PARTS.fullmatch(given.name)) is not None:
        prefix = given.with_name(parts[1])
    else:
        prefix = given
    if step is not None and not given.is_dir() and given.name != "checkpoint":
        raise Refusal("--step chooses among the checkpoints of a folder; give the folder.")
    check(prefix, given)
    return Source(prefix, tuple(sorted(steps_of(prefix.parent))))


def descend(folder: Path) -> Path:
    """The folder, or where it has nothing itself the one folder below that holds a checkpoint; raises Refusal for several."""
    if any(is_piece(name) or name == "model.safetensors" for name in os.listdir(folder)):
        return folder
    below = checkpoint_folders(folder)
    if len(below) > 1:
        raise Refusal(
            "{folder} holds several checkpoints ({names}); name one of them.",
            folder=folder,
            names=", ".join(str(path.relative_to(folder)) for path in below),
        )
    return below[0] if below else folder


def checkpoint_folders(root: Path, depth: int = DEPTH) -> list[Path]:
    """The folders from `root` down, `depth` deep at the most, that hold a checkpoint; not the hidden ones."""
    return folders_that(lambda names: any(map(is_checkpoint, names)), root, depth)


def folders_that(hold: Callable[[list[str]], bool], root: Path, depth: int = DEPTH) -> list[Path]:
    """The folders from `root` down whose files' names say that they `hold` something; not the hidden ones."""
    found = []
    for where, folders, names in islice(os.walk(root), MOST_FOLDERS):
        deep = len(Path(where).relative_to(root).parts) >= depth
        folders[:] = [] if deep else [name for name in folders if not name.startswith(".")]
        if hold(names):
            found.append(Path(where))
    return sorted(found)


def is_checkpoint(name: str) -> bool:
    """Whether a folder with a file of this name holds a checkpoint."""
    shard = SHARD.fullmatch(name) is not None and name.endswith(ENDINGS)
    return (name.endswith((".index", GGUF)) and not name.startswith(".")) or name in KNOWN or shard


def is_piece(name: str) -> bool:
    """Whether a file is a piece of a checkpoint."""
    return bool(PARTS.fullmatch(name) or SHARD.fullmatch(name)) or name in KNOWN or name.endswith(GGUF)


def check(prefix: Path, given: Path) -> None:
    """The checkpoint's index is there; else say what is there instead."""
    if prefix.with_name(prefix.name + ".index").is_file():
        return
    if not given.exists() and not given.parent.is_dir():
        raise Refusal("There is no {path}.", path=given)
    if prefix.is_file() and is_table(prefix):
        refuse_v1(prefix)
    if any(prefix.parent.glob(f"{glob_safe(prefix.name)}.data-*")) or prefix.with_name(prefix.name + ".meta").is_file():
        raise Refusal("{name}.index is missing; the checkpoint cannot be read without it.", name=prefix.name)
    raise Refusal("There is no checkpoint {path}: no {name}.index was found.", path=given, name=prefix.name)


def from_folder(folder: Path, step: int | None) -> Path:
    """The checkpoint of a folder: of `step`, else the one its state file names, else the newest."""
    found = steps_of(folder)
    if step is not None:
        if not found:
            raise Refusal("--step {step} is not in {folder}; there are no steps.", step=step, folder=folder)
        if step not in found:
            steps = ", ".join(map(str, sorted(found)))
            raise Refusal(
                "--step {step} is not in {folder}; the steps there are: {steps}.", step=step, folder=folder, steps=steps
            )
        return found[step]
    plain = sorted(file for file in folder.glob("*.index") if not file.name.startswith("."))
    named = from_state(folder, [file.stem for file in plain])
    if named is not None:
        return named
    if found:
        return found[max(found)]
    if len(plain) == 1:
        return plain[0].with_suffix("")
    if len(plain) > 1:
        raise Refusal(
            "{folder} holds several checkpoints ({names}); name one of them.",
            folder=folder,
            names=", ".join(p.stem for p in plain),
        )
    for table in (file for file in sorted(folder.iterdir()) if file.is_file() and is_table(file)):
        refuse_v1(table)
    if (folder / "model.safetensors").is_file() or any(SHARD.fullmatch(file.name) for file in folder.iterdir()):
        raise Refusal("{folder} is a model of `transformers` already; copy it into models/ as it is.", folder=folder)
    if any(folder.glob("*.data-*")):
        raise Refusal(
            "{folder} holds data of a checkpoint but no .index; the checkpoint cannot be read without it.",
            folder=folder,
        )
    refuse_adapter(folder)
    refuse_other_files(folder)
    raise Refusal("{folder} holds no checkpoint: there is no .index file in it.", folder=folder)


def steps_of(folder: Path) -> dict[int, Path]:
    """Checkpoints named NAME-STEP in a folder, by step."""
    prefixes = [file.with_suffix("") for file in folder.glob("*.index") if not file.name.startswith(".")]
    return {int(match[2]): prefix for prefix in prefixes if (match := STEP.fullmatch(prefix.name))}


def from_state(folder: Path, there: list[str]) -> Path | None:
    """The checkpoint that the state file names: a bare name, or an absolute path from another machine.

    None without a state file, or without any checkpoint; raises Refusal where `there` are others than the one it names.
    """
    state = folder / "checkpoint"
    match = STATE.search(state.read_text("utf-8", "replace")) if state.is_file() else None
    if match is None or not there:
        return None
    name = unescape(match[1]).replace("\\", "/").rsplit("/", 1)[-1]
    if name in there:
        return folder / name
    raise Refusal(
        "{state} names {name!r:.200}, which is not there; {folder} holds {names}: name the one that you mean.",
        state=state.name,
        name=name,
        folder=folder,
        names=", ".join(there),
    )


def unescape(text: str) -> str:
    """Undo the C escapes of a text protobuf; non-ASCII is octal bytes of UTF-8."""
    raw = re.sub(
        rb"\\([0-7]{1,3}|.)",
        lambda m: (
            bytes([int(m[1], 8) & 255]) if m[1][:1] in b"01234567" else {b"n": b"\n", b"t": b"\t"}.get(m[1], m[1])
        ),
        text.encode(),
    )
    return raw.decode("utf-8", "replace")


def is_table(file: Path) -> bool:
    """Whether a file ends with the magic number of a sorted-string table, as V1 checkpoints do."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 8))
        return int.from_bytes(stream.read(8), "little") == MAGIC


def refuse_v1(file: Path) -> None:
    """Raise Refusal for a checkpoint in TensorFlow's V1 format."""
    raise Refusal(
        "{file} is a checkpoint of TensorFlow's V1 format, which cannot be read here; restore it in TensorFlow and "
        "save it with tf.compat.v1.train.Saver(), which writes V2.",
        file=file.name,
    )


def glob_safe(name: str) -> str:
    """A file's name as a glob pattern that means this name alone."""
    return re.sub(r"([*?[])", r"[\1]", name)
