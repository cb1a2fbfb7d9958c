"""A folder as a zip that is made while it is sent: never more than a piece of a file in memory, and nothing on the disk."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

CHUNK = 2**20  # bytes


class Pipe:
    """Takes what the zip's writer says, and gives it on."""

    def __init__(self):
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """As of a file that cannot be gone back in."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        found, self._parts = b"".join(self._parts), []
        return found


def zipped(folder: Path, root: str) -> Iterator[bytes]:
    """The plain files of a folder, those with a dot in front left out, as a zip in which they lie under `root`."""
    pipe = Pipe()
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:  # weights do not get smaller
        for file in files:
            entry = zipfile.ZipInfo.from_file(file, f"{root}/{file.name}", strict_timestamps=False)
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                while chunk := source.read(CHUNK):
                    out.write(chunk)
                    yield pipe.taken()
    yield pipe.taken()
