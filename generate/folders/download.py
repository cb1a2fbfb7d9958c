"""Fetching a GPT-2 from the Hugging Face hub into `models/`: the only part of the engine that uses the network."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from generate.errors import NoRoom, Refusal
from generate.folders.atomic import in_place_of
from generate.folders.contract import check_folder
from generate.folders.json_files import read_json
from generate.folders.strangers import refuse_other_type
from generate.folders.weights import INDEX, WHOLE
from generate.text.tokenizer import TOKENIZER_FILES

CONFIG = "config.json"
FILES = (
    CONFIG,
    "generation_config.json",
    WHOLE,
    INDEX,
    "model-*-of-*.safetensors",
    *TOKENIZER_FILES,
    "LICENSE*",
    "README.md",
)
OLD = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json")  # where there is nothing newer
MARGIN = 256 * 2**20  # bytes of the disk that stay free
PATIENCE = 5.0  # seconds to reach the hub; huggingface_hub alone retries for 47


def fetch(name: str, models: Path, target: str | None = None) -> Path:
    """Download hub model `name` to `models/target`; raises Refusal without a network, or when it is no GPT-2.

    It is checked before it gets its name, so an interrupted download leaves nothing that the page would list.
    """
    home = models / (target or name.split("/")[-1])
    if home.parent != models or home.name.startswith("."):
        raise Refusal("{name!r} cannot be the name of a folder in models/.", name=target or name)
    refuse_existing(home)
    models.mkdir(parents=True, exist_ok=True)
    with in_place_of(home) as part:
        pull_from_hub(name, part)
        if not any(part.glob("*.safetensors")) and any(part.glob("*.bin")):
            set_aside(part, home, name)
        try:
            check_folder(part)
        except Refusal as refusal:
            reason = refusal.problem.altered(model=name)  # it was checked under the name of its temporary folder
            raise Refusal("{name} was fetched but cannot be served: {reason}", name=name, reason=reason) from None
        refuse_existing(home)  # it may have come meanwhile, and would be replaced
    return home


def pull_from_hub(name: str, part: Path, times: int = 1) -> None:
    """Download the files of hub model `name` into the folder `part`, old weights of PyTorch where there are none newer.

    Raises Refusal, also where the disk has no room for `times` their bytes, as where a model is made of them.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    require_network(constants.ENDPOINT)
    try:
        snapshot_download(name, local_dir=part, allow_patterns=[CONFIG])
        refuse_stranger(name, part)  # before gigabytes of it are fetched
        require_room(name, part, FILES, times)
        snapshot_download(name, local_dir=part, allow_patterns=list(FILES))
        if not any(part.glob("*.safetensors")):
            require_room(name, part, OLD, times)
            snapshot_download(name, local_dir=part, allow_patterns=list(OLD))
    except (RepositoryNotFoundError, HFValidationError):
        raise Refusal("The hub has no model called {name!r} that anyone may read.", name=name) from None
    except Refusal:
        raise
    except Exception as error:  # huggingface_hub lets through what httpx, json and the disk raise
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise Refusal("Fetching {name} failed: {reason}.", name=name, reason=reason) from None
    shutil.rmtree(part / ".cache", ignore_errors=True)


def require_room(name: str, part: Path, patterns: Sequence[str], times: int) -> None:
    """Raise NoRoom unless the disk of folder `part` has room for `times` the bytes that the hub says the files have."""
    from huggingface_hub import snapshot_download

    told = snapshot_download(name, local_dir=part, allow_patterns=list(patterns), dry_run=True)
    size = sum(file.file_size or 0 for file in told if file.will_download)
    needed, free = size * times + MARGIN, shutil.disk_usage(part).free
    if needed > free:
        raise NoRoom(
            "{name} has {size:,} bytes on the hub; to fetch it and make a model of it {needed:,} are needed, and this disk "
            "has {free:,} left.",
            name=name,
            size=size,
            needed=needed,
            free=free,
        )


def refuse_stranger(name: str, part: Path) -> None:
    """Raise Refusal where config.json in the folder `part` says that it is another kind of model."""
    kind = read_json(part, CONFIG, optional=True).get("model_type", "gpt2")
    if kind != "gpt2":
        refuse_other_type(name, kind)


def set_aside(part: Path, home: Path, name: str) -> None:
    """Keep weights that only `convert` reads, in a hidden folder beside `home`; raises Refusal, which says how to go on."""
    kept = home.with_name(f".{home.name}-pytorch")
    shutil.rmtree(kept, ignore_errors=True)
    part.rename(kept)
    raise Refusal(
        "{name} has weights of PyTorch alone, which are in {path} now: `python -m convert {path} {home}` makes a model of "
        "them; remove {path} when it is done.",
        name=name,
        path=kept,
        home=home,
    )


def refuse_existing(home: Path) -> None:
    """Raise Refusal where there is a file or folder already."""
    if home.exists():
        raise Refusal("{path} exists already; remove it first, or choose another name with --as.", path=home)


def require_network(endpoint: str) -> None:
    """Raise Refusal unless the hub's address answers within PATIENCE seconds (or a proxy is to be asked instead)."""
    from urllib.request import getproxies

    address = urlsplit(getproxies().get("https") or endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=PATIENCE).close()
    except OSError as error:
        raise Refusal(
            "The Hugging Face hub ({host}) cannot be reached: {reason}. Connect this computer to the network, or "
            "copy a model folder into models/ by hand.",
            host=address.hostname,
            reason=error.strerror or error,
        ) from None
