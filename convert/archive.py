"""Checkpoints that come packed: .tar, .tar.gz, .zip. Nothing leaves the folder it is unpacked into."""

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from generate import Refusal

KINDS = (".tar", ".tar.gz", ".tgz", ".zip")
WANTED = (".index", ".meta", "checkpoint", "hparams.json", "encoder.json", "vocab.bpe")
LARGEST = 16 * 2**30  # bytes in all; the largest GPT-2 has 6.2 GB, three times that with its optimizer's slots
MOST_MEMBERS = 10_000
CHUNK = 8 * 2**20


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """`source` itself, or the folder of the checkpoint that the archive `source` holds, while the context lasts."""
    if not (source.is_file() and source.name.endswith(KINDS)):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="rubric-") as folder:
        try:
            with zipfile.ZipFile(source) if source.suffix == ".zip" else tarfile.open(source) as archive:
                members = zip_members(archive) if source.suffix == ".zip" else tar_members(archive)
                unpack(source, members, Path(folder))
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise Refusal(f"{source.name} cannot be unpacked ({error}); copy it again.") from None
        yield checkpoint_folder(source, Path(folder))


def tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each regular file."""
    for number, member in enumerate(archive):
        if number >= MOST_MEMBERS:
            raise Refusal(f"The archive has more than {MOST_MEMBERS:,} members; unpack it by hand.")
        if member.isreg():
            yield member.name, member.size, archive.extractfile(member)


def zip_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, int, IO[bytes]]]:
    if len(archive.infolist()) > MOST_MEMBERS:
        raise Refusal(f"The archive has more than {MOST_MEMBERS:,} members; unpack it by hand.")
    for member in archive.infolist():
        if not member.is_dir():
            with archive.open(member) as content:
                yield member.filename, member.file_size, content


def unpack(source: Path, members: Iterator[tuple[str, int, IO[bytes]]], folder: Path) -> None:
    """Copy what belongs to a checkpoint into `folder`; the claimed sizes are bounds, whatever the content is."""
    room = min(LARGEST, shutil.disk_usage(folder).free)
    for name, size, content in members:
        path = PurePosixPath(name.replace("\\", "/"))
        if not (path.name.endswith(WANTED) or ".data-" in path.name):
            continue
        if path.is_absolute() or ".." in path.parts:
            raise Refusal(f"{source.name} holds the member {name!r:.80}, which would leave its folder.")
        room -= size
        if room < 0:
            raise Refusal(f"{source.name} unpacks to more than there is room for; unpack it by hand where there is.")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            left = size
            while left and (piece := content.read(min(CHUNK, left))):
                out.write(piece)
                left -= len(piece)
        if left or content.read(1):
            raise Refusal(f"{source.name}: {path.name} has another size than the archive says; copy it again.")


def checkpoint_folder(source: Path, folder: Path) -> Path:
    """The one folder in there that holds an index."""
    found = sorted({Path(where) for where, _, files in os.walk(folder) if any(f.endswith(".index") for f in files)})
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        what = (
            f"several checkpoints ({names}); unpack it and name one" if found else "no checkpoint: no .index is in it"
        )
        raise Refusal(f"{source.name} holds {what}.")
    return found[0]
