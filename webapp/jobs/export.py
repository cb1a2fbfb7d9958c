"""A model as a checkpoint of TensorFlow's, made while somebody waits to take it away: by one process at a time."""

import shutil
import tempfile
import threading
from pathlib import Path

from generate import Busy, ModelFolder, Refusal
from webapp.jobs.child import Child, last_words

PATIENCE = 600.0  # seconds; the largest GPT-2 takes one or two minutes
TIMES, MARGIN = 2, 256 * 2**20  # of weights in half precision it makes whole ones; and some bytes of the disk stay free
ENDING = 10.0  # seconds that one which was stopped is waited for
AGAIN = 20  # seconds until it is worth asking again


class Export:
    """Makes them in `folder`, where what a killed server leaves is swept up. `nice` is how much the process gives way."""

    def __init__(self, folder: Path, models: Path, nice: int):
        self._folder, self._models, self._nice = folder, models, nice
        self._turn = threading.Lock()

    def to_tensorflow(self, model: ModelFolder) -> Path:
        """What `python -m convert --to-tf` makes, as the model's name in a new folder, which is to be removed afterwards.

        Raises Refusal with its sentence, where the disk has no room, or where it takes too long; Busy while another is made.
        """
        if not self._turn.acquire(blocking=False):
            raise Busy("Another model is just being made into a checkpoint; ask again when it is done.", AGAIN)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._require_room(model)
            made = Path(tempfile.mkdtemp(dir=self._folder))
            try:
                self._run(model, made)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
            return made
        finally:
            self._turn.release()

    def _require_room(self, model: ModelFolder) -> None:
        needed = TIMES * sum(file.stat().st_size for file in model.weights) + MARGIN
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise Refusal(
                "To make a checkpoint of {name} {needed:,} bytes are needed, and this server's disk has {free:,} left.",
                name=model.name,
                needed=needed,
                free=free,
            )

    def _run(self, model: ModelFolder, made: Path) -> None:
        arguments = ["--to-tf", str(model.path), str(made / model.name)]
        child = Child(made, "convert", arguments, "journal.jsonl", self._models, self._nice)
        try:
            status = child.wait(PATIENCE)
        finally:
            child.stop()
        if status is None:
            child.wait(ENDING)
            raise Refusal("Making a checkpoint of {name} took too long and was stopped.", name=model.name)
        if status:
            raise Refusal("{sentence}", sentence=last_words(made).removeprefix("convert: "))
