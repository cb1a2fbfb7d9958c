"""A model of the Hugging Face hub as a source: `hub:OWNER/NAME`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from generate import pull_from_hub

PREFIX = "hub:"
TIMES = 3  # as many bytes as are fetched: they lie there, and the model beside them, of half precision made whole


def hub_name(source: Path) -> str | None:
    """The name of a model on the hub; None for a source on this disk."""
    name = str(source)
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) and not source.exists() else None


@contextmanager
def fetched(name: str) -> Iterator[Path]:
    """A folder with the files of a hub model, while the context lasts; raises Refusal where it cannot be fetched."""
    os.environ["HF_HUB_OFFLINE"] = "0"  # a server sets it; whoever names the hub wants the network, this once
    with tempfile.TemporaryDirectory(prefix="rubric-") as folder:
        pull_from_hub(name, Path(folder), TIMES)
        yield Path(folder)
