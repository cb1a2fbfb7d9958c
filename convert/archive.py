"""Checkpoints that come packed: .tar, .tar.gz, .zip. Nothing leaves the folder it is unpacked into."""

import errno
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from convert.adopted import is_part, model_folders
from convert.questions import is_ours
from convert.source import checkpoint_folders, is_checkpoint
from generate import Refusal, refuse_mistaken

KINDS = (".tar", ".tar.gz", ".tgz", ".zip")
PART = re.compile(r"(\.zip|\.tar|\.tar\.gz|\.tgz)\.(\d{2,3}|(?!gz$|xz$)[a-z]{2}|part\d*)$|\.z\d\d$")
WANTED = (
    *(".index", ".meta", "checkpoint", "hparams.json", "encoder.json", "vocab.bpe"),
    *("config.json", "vocab.json", "merges.txt", "tokenizer.json", "added_tokens.json", "special_tokens_map.json"),
    *("generation_config.json", "tokenizer_config.json", "vocab.txt", "meta.pkl"),
)
LARGEST = 16 * 2**30  # bytes in all; the largest GPT-2 has 6.2 GB, three times that with its optimizer's slots
MOST_MEMBERS = 10_000
CHUNK = 8 * 2**20
END_OF_ZIP = 22 + 2**16  # bytes in which the record at the end of a zip lies, with the longest comment


# what the libraries raise for archives that are damaged or made to harm
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, zlib.error, lzma.LZMAError)


def is_split(file: Path) -> bool:
    """Whether a .zip is the last part of several: it then counts itself as another than the first."""
    if file.suffix.lower() != ".zip":
        return False
    with file.open("rb") as stream:
        if stream.read(4) == b"PK\x07\x08":
            return True
        stream.seek(max(0, file.stat().st_size - END_OF_ZIP))
        tail = stream.read()
    place = tail.rfind(b"PK\x05\x06")
    return place >= 0 and int.from_bytes(tail[place + 4 : place + 6], "little") not in (0, 0xFFFF)


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """`source` itself, or the folder of the checkpoint that the archive `source` holds, while the context lasts."""
    if source.is_file() and (PART.search(source.name.lower()) or is_split(source)):
        raise Refusal(
            "{file} is one part of a split archive; put the parts together first (`cat run.zip.* > run.zip`, or `zip -s 0 "
            "run.zip --out whole.zip` where they end in .z01) and give the whole.",
            file=source.name,
        )
    if not (source.is_file() and source.name.lower().endswith(KINDS)):
        yield source
        return
    refuse_mistaken(source)
    with tempfile.TemporaryDirectory(prefix="rubric-") as folder:
        try:
            zipped = source.suffix.lower() == ".zip"
            with zipfile.ZipFile(source) if zipped else tarfile.open(source) as archive:
                members = zip_members(archive) if zipped else tar_members(archive)
                unpack(source, members, Path(folder))
        except Refusal:
            raise
        except BROKEN as error:
            if is_ours(error):
                raise Refusal(
                    "{file} could not be unpacked ({reason}); make room, and try again.",
                    file=source.name,
                    reason=error.strerror,
                ) from None
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise Refusal(
                "{file} cannot be unpacked ({reason}); copy it again.", file=source.name, reason=reason
            ) from None
        yield checkpoint_folder(source, Path(folder))


def tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each regular file."""
    for number, member in enumerate(archive):
        if number >= MOST_MEMBERS:
            raise Refusal("The archive has more than {limit:,} members; unpack it by hand.", limit=MOST_MEMBERS)
        if (member.issym() or member.islnk()) and is_needed(PurePosixPath(member.name)):
            raise Refusal("{member!r:.80} is a link in the archive; unpack it by hand.", member=member.name)
        if member.isreg():
            yield member.name, member.size, archive.extractfile(member)


def zip_members(archive: zipfile.ZipFile) -> Iterator[tuple[str, int, IO[bytes]]]:
    """As `tar_members`, of a zip."""
    if len(archive.infolist()) > MOST_MEMBERS:
        raise Refusal("The archive has more than {limit:,} members; unpack it by hand.", limit=MOST_MEMBERS)
    for member in archive.infolist():
        if not member.is_dir():
            with archive.open(member) as content:
                yield member.filename, member.file_size, content


def unpack(source: Path, members: Iterator[tuple[str, int, IO[bytes]]], folder: Path) -> None:
    """Copy what belongs to a checkpoint into `folder`; the claimed sizes are bounds, whatever the content is."""
    room, free = LARGEST, shutil.disk_usage(folder).free
    for name, size, content in members:
        path = PurePosixPath(name.replace("\\", "/"))
        if not is_wanted(path):
            continue
        if path.is_absolute() or ".." in path.parts:
            raise Refusal(
                "{file} holds the member {member!r:.80}, which would leave its folder.", file=source.name, member=name
            )
        room, free = room - size, free - size
        if room < 0 or size < 0:
            raise Refusal(
                "{file} unpacks to more than there is room for; unpack it by hand where there is.", file=source.name
            )
        if free < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            left = size
            while left and (piece := content.read(min(CHUNK, left))):
                out.write(piece)
                left -= len(piece)
        if left or content.read(1):
            raise Refusal(
                "{file}: {member} has another size than the archive says; copy it again.",
                file=source.name,
                member=path.name,
            )


def is_wanted(path: PurePosixPath) -> bool:
    """Whether a member belongs to a checkpoint; what a Mac adds to its archives does not."""
    named = path.name.endswith(WANTED) or is_checkpoint(path.name) or is_part(path.name) or ".data-" in path.name
    return named and not path.name.startswith("._") and "__MACOSX" not in path.parts


def is_needed(path: PurePosixPath) -> bool:
    """Whether a model is not whole without a member."""
    return is_wanted(path) and not path.name.startswith(("README", "LICENSE"))


def checkpoint_folder(source: Path, folder: Path) -> Path:
    """The one folder in there that holds an index, or PyTorch's weights, or a model of `transformers`'."""
    found = checkpoint_folders(folder, depth=MOST_MEMBERS) or model_folders(folder)
    if not found and any(folder.rglob("*.data-?????-of-?????")):
        raise Refusal(
            "{file} holds data of a checkpoint but no .index; where its files came in several archives, unpack all of them "
            "into one folder and give that.",
            file=source.name,
        )
    if not found:
        raise Refusal("{file} holds no checkpoint: no .index is in it.", file=source.name)
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise Refusal(
            "{file} holds several checkpoints ({names}); unpack it and name one.", file=source.name, names=names
        )
    return found[0]
