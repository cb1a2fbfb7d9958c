"""A folder that keeps the contract: what is known of it, what its optional files say, and when it counts as another one."""

import hashlib
import logging
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from generate.errors import Problem, Refusal
from generate.folders.atomic import write_json
from generate.folders.config import Config
from generate.folders.examples import Example
from generate.folders.json_files import read_json
from generate.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

reading: dict[Path, threading.Lock] = {}  # one for each file whose sha256 was asked for
READ_LATER = ("certificate.json", "run.json")  # what describes a model is no part of what is checked
SETTINGS = (
    "rubric.json",
    "generation_config.json",
    "examples.json",
)  # what a loaded model needs of these is in fields of its own


@dataclass(frozen=True)
class ModelFolder:
    """A folder that keeps the contract."""

    name: str
    path: Path
    config: Config
    weights: tuple[Path, ...]  # model.safetensors, or its shards
    begin_id: int | None  # of a token that every text begins with, and nobody sees
    end_ids: tuple[int, ...]  # each of them ends a text
    end_text: str | None  # a fine-tune's end marker in ordinary tokens: a stop string that nobody sees
    can: str  # what its owner says that it is good at, and bad at; "" where nothing is said
    cannot: str
    source: str
    claimed_fingerprint: str | None
    earlier: tuple[str, ...]  # fingerprints of the weights that it had before
    defaults: tuple[tuple[str, float], ...]
    examples: tuple[Example, ...]
    remarks: tuple[Problem, ...] = field(compare=False)  # what somebody who uses it should know
    signature: tuple  # of the files that were checked, so that a folder whose weights were replaced is another one
    tokenizer: Tokenizer = field(compare=False, repr=False)

    @property
    def end_id(self) -> int | None:
        """The token that closes documents, and that an empty prompt starts from."""
        return self.end_ids[0] if self.end_ids else None

    @property
    def identity(self) -> tuple:
        """What a loaded model depends on: its numbers, its tokens, and where its texts begin and end."""
        files = tuple(entry for entry in self.signature if entry[0] not in SETTINGS)
        return self.path, self.begin_id, self.end_ids, self.end_text, files

    def measured(self) -> dict[str, dict]:
        """What each precision does to this model, as far as it was measured on these very weights."""
        kept = read_json(self.path, "rubric.json", optional=True).get("measured")
        if not isinstance(kept, dict) or kept.get("fingerprint") != self.fingerprint():
            return {}
        found = kept.get("precisions")
        return {k: v for k, v in found.items() if is_effect(v)} if isinstance(found, dict) else {}

    def remember_measured(self, precisions: dict[str, dict]) -> None:
        """Keep in the manifest what was measured; where the folder cannot be written to, it is measured again."""
        manifest = {"format": 1, "source": self.source} | read_json(self.path, "rubric.json", optional=True)
        manifest["measured"] = {"fingerprint": self.fingerprint(), "precisions": precisions}
        try:
            write_json(self.path / "rubric.json", manifest)
        except OSError as error:
            log.warning("%s: what was measured cannot be kept in rubric.json (%s)", self.name, error.strerror)

    def certificate(self) -> dict | None:
        """What `convert` found when it made this folder, if it did; raises Refusal when the file is no JSON object."""
        return read_json(self.path, "certificate.json", optional=True) or None

    def training(self) -> dict | None:
        """How `finetune` made this folder, if it did; raises Refusal when the file is no JSON object."""
        return read_json(self.path, "run.json", optional=True) or None

    @property
    def end_name(self) -> str | None:
        """How a prompt names the end token with `parse_special`, if there is one."""
        return self.tokenizer.special_names.get(self.end_id)

    def encode_prompt(self, text: str, parse_special: bool = False) -> list[int]:
        """Token ids of a prompt. An empty one starts from the end token (or is [] without one); neither it nor `begin_id` has text.

        `parse_special`: whether the names of special tokens are those tokens, as in `Tokenizer.encode`.
        """
        ids = self.tokenizer.encode(text, parse_special=parse_special)
        if self.begin_id is not None:
            return ids if ids[:1] == [self.begin_id] else [self.begin_id, *ids]
        if ids:
            return ids
        return [] if self.end_id is None else [self.end_id]

    def fingerprint(self) -> str:
        """sha256 of the weights, in hex: of their file, or of the list of its shards' own in order, a line each.

        Raises Refusal when the manifest claims another one.
        """
        parts = [sha256(file, (status := file.stat()).st_size, status.st_mtime_ns) for file in self.weights]
        found = parts[0] if len(parts) == 1 else hashlib.sha256("".join(f"{p}\n" for p in parts).encode()).hexdigest()
        if self.claimed_fingerprint not in (None, found):
            raise Refusal(
                "{name}: {file} is not the file that rubric.json describes (sha256 {found}…, not "
                "{claimed}…); restore it, or delete rubric.json if the change is meant.",
                name=self.name,
                file=self.weights[0].name,
                found=found[:12],
                claimed=self.claimed_fingerprint[:12],
            )
        return found


def is_part(file: Path) -> bool:
    """Whether a file belongs to the model. A README or a log does not; names with a dot in front are being written."""
    known = file.suffix in (".json", ".safetensors", ".bin") or file.name in ("merges.txt", "vocab.bpe", "vocab.txt")
    return known and not file.name.startswith(".") and file.name not in READ_LATER and file.is_file()


def is_effect(value: object) -> bool:
    """Whether a value from the manifest is what transformer/precision.py measures; anything else is measured again."""
    numbers = [value.get(name) for name in ("kl", "same")] if isinstance(value, dict) else [None]
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)


def signature(path: Path) -> tuple:
    """Changes whenever a file of the model is written, added or removed; () when the folder cannot be read."""
    try:
        files = sorted(path.iterdir())
        return tuple((f.name, (s := f.stat()).st_size, s.st_mtime_ns, s.st_ino) for f in files if is_part(f))
    except OSError:
        return ()


def sha256(file: Path, size: int, mtime_ns: int) -> str:
    """In hex; computed anew when the file's size or time of change is another one.

    By one thread: the others who want it at the same moment wait, instead of reading half a gigabyte each.
    """
    with reading.setdefault(file, threading.Lock()):
        return computed(file, size, mtime_ns)


@lru_cache(maxsize=4096)
def computed(file: Path, _size: int, _mtime_ns: int) -> str:
    """The sha256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
