"""What was uploaded so far: a folder for each file, in which the length of `data` says how far it has come.

Nothing of an upload is kept in memory or in a database, so that a killed server goes on from the last byte that is on the disk.
"""

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from generate import write_json
from webapp.uploads.pieces import link_or_move, write_on
from webapp.uploads.refusals import Misplaced, Missing, NotReady, NotStored, TooMuch

NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
DAY = 24 * 3600.0
LARGEST = 64 * 2**30  # bytes; the largest GPT-2 has 6.2 GB, three times that with its optimizer's slots
TIMES, MARGIN = 3, 256 * 2**20  # an archive lies there, is unpacked, and becomes a model; and some bytes stay free


@dataclass(frozen=True)
class Upload:
    """A file that comes, or has come: its `name` at home, its `length` in bytes, and the folder that it lies in."""

    id: str
    name: str
    length: int
    folder: Path

    @property
    def data(self) -> Path:
        """The file itself, as far as it is here."""
        return self.folder / "data"

    @property
    def offset(self) -> int:
        """How many of its bytes are here; raises Missing where it was removed."""
        try:
            return self.data.stat().st_size
        except FileNotFoundError:
            raise removed() from None

    @property
    def is_whole(self) -> bool:
        """Whether all of them are."""
        return self.offset == self.length

    def expires(self, keep: float) -> float:
        """When it will be removed, `keep` seconds after its last byte came, in seconds since 1970."""
        return self.data.stat().st_mtime + keep


class Uploads:
    """Those in `folder`. `keep` is how many seconds an upload stays after its last byte."""

    def __init__(self, folder: Path, keep: float = DAY):
        self.folder, self.keep = folder, keep
        self._lock = threading.RLock()
        self._turns: dict[str, object] = {}  # of each upload, whose turn it is to write: the last that asked for it

    def create(self, name: str, length: int) -> Upload:
        """Make room for a file; raises TooMuch where there is not enough."""
        if length > LARGEST:
            raise TooMuch(
                "{name} has {size:,} bytes, and no upload may have more than {limit:,}.",
                name=name,
                size=length,
                limit=LARGEST,
            )
        with self._lock:  # two that are begun at once count each other
            self._require_room(name, length)
            upload_id = secrets.token_hex(16)
            upload = Upload(upload_id, name, length, self.folder / upload_id)
            upload.folder.mkdir(parents=True)
            upload.data.touch()
            write_json(upload.folder / "upload.json", {"name": name, "length": length})
        return upload

    def _require_room(self, name: str, length: int) -> None:
        """Raise TooMuch unless the disk has room for a file, and for what others were promised."""
        self.folder.mkdir(parents=True, exist_ok=True)
        promised = sum(upload.length - upload.offset for upload in self.all())
        free = max(0, shutil.disk_usage(self.folder).free - promised)
        needed = length * TIMES + MARGIN
        if needed > free:
            raise TooMuch(
                "{name} has {size:,} bytes; to take it in, unpack it and make a model of it {needed:,} are needed, and "
                "this server's disk has {free:,} left.",
                name=name,
                size=length,
                needed=needed,
                free=free,
            )

    def all(self) -> list[Upload]:
        """All that are here, whole or not."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return [found for name in names if (found := self._read(name)) is not None]

    def find(self, upload_id: str) -> Upload:
        """An upload by its name; raises Missing where there is none, or no more."""
        found = self._read(upload_id)
        if found is None or found.expires(self.keep) < time.time():
            raise removed()
        return found

    def _read(self, upload_id: str) -> Upload | None:
        if not NAME.fullmatch(upload_id):
            return None
        folder = self.folder / upload_id
        try:
            told = json.loads((folder / "upload.json").read_text("utf-8"))
            os.stat(folder / "data")
        except (OSError, ValueError):  # removed at this moment, or the server was killed when it was made
            return None
        return Upload(upload_id, told["name"], told["length"], folder)

    def ask(self, upload: Upload) -> int:
        """How far an upload has come. Whoever still writes to it ends there: they who ask will go on from it."""
        with self._lock:
            self._turns.pop(upload.id, None)
            return upload.offset

    def append(self, upload: Upload, offset: int, blocks: Iterator[bytes], size: int = 0) -> int:
        """Put blocks behind the `offset` bytes that are here, on the disk; returns how many are here then. `size` is that of
        all blocks, where it is known.

        Raises Misplaced where another number is here, or somebody else went on with it; TooMuch beyond the length that
        was announced, of which nothing is kept; NotStored when the disk is full. What came before stays.
        """
        require_within(upload, offset + size)
        turn = object()
        with opened(upload) as out:
            with self._lock:
                if upload.offset != offset:
                    raise Misplaced(
                        "This piece begins at byte {offset:,}, and {here:,} are here.",
                        offset=offset,
                        here=upload.offset,
                    )
                self._turns[upload.id] = turn
            try:
                for block in blocks:
                    offset = self._write(upload, turn, out, offset, block)
                os.fsync(out.fileno())
            finally:
                with self._lock:
                    if self._turns.get(upload.id) is turn:
                        del self._turns[upload.id]
        return offset

    def _write(self, upload: Upload, turn: object, out: IO[bytes], offset: int, block: bytes) -> int:
        """Write one block, if it is still this writer's turn; returns the new offset."""
        require_within(upload, offset + len(block))
        with self._lock:
            if self._turns.get(upload.id) is not turn:
                raise Misplaced("Another piece of this file is being sent.")
            try:
                write_on(out, offset, block)
            except OSError as error:
                raise NotStored(
                    "{name} cannot be stored ({reason}).", name=upload.name, reason=error.strerror
                ) from None
        return offset + len(block)

    def remove(self, upload: Upload) -> None:
        """Remove an upload and what has come of it."""
        self.give_up([upload.id])

    def move(self, upload_ids: list[str], target: Path) -> list[Path]:
        """Move whole uploads into the folder `target`, as `lend` puts them there; returns where they are."""
        moved = self.lend(upload_ids, target)
        self.give_up(upload_ids)
        return moved

    def lend(self, upload_ids: list[str], target: Path) -> list[Path]:
        """Put whole uploads into the folder `target` under the names that they had at home, and keep them here as well, where
        the file system can have a file in two places; returns where they are.

        Raises NotReady or Missing, and puts none, where one is not here, not whole, or named as another.
        """
        found = [self.find(upload_id) for upload_id in dict.fromkeys(upload_ids)]
        names = [upload.name for upload in found]
        for upload in found:
            if not upload.is_whole:
                raise NotReady(
                    "{name} is not here whole: {here:,} of {length:,} bytes have come.",
                    name=upload.name,
                    here=upload.offset,
                    length=upload.length,
                )
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise NotReady("Two of these files are called {name}; give one checkpoint at a time.", name=twice)
        target.mkdir(parents=True, exist_ok=True)
        with self._lock:
            for upload in found:
                link_or_move(upload.data, target / upload.name)
        return [target / name for name in names]

    def give_up(self, upload_ids: list[str]) -> None:
        """Remove what was lent, now that it is kept there."""
        for upload_id in filter(NAME.fullmatch, upload_ids):
            with self._lock:
                self._turns.pop(upload_id, None)
                shutil.rmtree(self.folder / upload_id, ignore_errors=True)

    def expire(self) -> None:
        """Remove what has got nothing for `keep` seconds, and folders that a killed server left half made."""
        for name in os.listdir(self.folder) if self.folder.is_dir() else []:
            folder, found = self.folder / name, self._read(name)
            with self._lock, suppress(FileNotFoundError):  # removed at this moment
                if (found.data if found else folder).stat().st_mtime + self.keep < time.time():
                    shutil.rmtree(folder, ignore_errors=True)


def removed() -> Missing:
    """What is said of an upload that is not here."""
    return Missing("There is no such upload here any more; choose the file again.")


def opened(upload: Upload) -> IO[bytes]:
    """The file, to be gone on with; raises Missing where it was removed."""
    try:
        return upload.data.open("ab", buffering=0)
    except FileNotFoundError:
        raise removed() from None


def require_within(upload: Upload, end: int) -> None:
    """Raise TooMuch where a piece would end beyond what was announced."""
    if end > upload.length:
        raise TooMuch(
            "{name} goes on beyond the {length:,} bytes that were announced.", name=upload.name, length=upload.length
        )
