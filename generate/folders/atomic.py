"""Writing files and folders so that each is there whole or not at all: made beside its place, then moved there in one step."""

import ctypes
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from generate.errors import Refusal

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # Linux


def check_target(target: Path, force: bool, source: Path | None = None) -> None:
    """Raise Refusal where `target` cannot become a model's folder, or writing to it would lose something.

    That is what is there (unless `force`), and in every case the `source` that is read.
    """
    if target.exists() and not force:
        raise Refusal("{path} exists already; choose another name, or add --force to replace it.", path=target)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Refusal("{path} is no folder; choose another name.", path=target)
    if source is not None and target.exists() and target.resolve() in (source.resolve(), *source.resolve().parents):
        raise Refusal(
            "{path} holds what is to be read, and would be replaced with it; choose another name.", path=target
        )
    if target.name.startswith(".") or not target.name:
        raise Refusal("{path} cannot be a model's folder: its name begins with a dot.", path=target)
    if not target.parent.is_dir():
        raise Refusal("There is no folder {folder} to put {name} into.", folder=target.parent, name=target.name)


def write_whole(file: Path, body: bytes) -> None:
    """Put `body` into `file`; whoever reads sees the old content or the new one.

    Raises OSError where it cannot be written; the file is then as it was, and nothing is left beside it.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_bytes(body)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def write_secret(file: Path, body: bytes) -> None:
    """As `write_whole`, into a file that nobody but its folder's owner may read: root, too, writes it for the service whose
    folder that is. Raises OSError as that does."""
    part, folder = file.with_name(f".{file.name}.{os.getpid()}"), file.parent.stat()
    try:
        part.unlink(missing_ok=True)  # of a process that was killed
        # made here and nowhere else: who has the folder could have put a link there, to a file that root would give away
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as stream:
            if folder.st_uid != os.geteuid() == 0:
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
            stream.write(body)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def write_json(file: Path, value: dict) -> None:
    """Write a JSON object whole, in UTF-8; raises OSError, and ValueError for a number that is not finite."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(file, text.encode("utf-8"))


@contextmanager
def in_place_of(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when all went well, and disappears when not.

    Its name begins with a dot, so the page does not list it. An old folder is exchanged with it in one step.
    """
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=target, reason=error.strerror) from None
    try:
        yield part
        part.chmod(0o755)
        for file in (*part.rglob("*"), part):
            sync(file)
        if target.exists():
            swap(part, target)  # the old one is in `part` now, and goes with it
        else:
            part.rename(target)
        sync(target.parent)
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=target, reason=error.strerror or error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove_whole(folder: Path, target: Path) -> None:
    """Remove a folder that lies beside `target`, in one step to all who look for it by its name; what is left of it where
    the process is killed meanwhile counts as half-made."""
    aside = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    with suppress(OSError):  # it is gone already, or cannot be moved, and is removed where it is
        folder.rename(aside)
    for path in (aside, folder):
        shutil.rmtree(path, ignore_errors=True)


def half_made(target: Path) -> list[Path]:
    """The folders that `in_place_of(target)` and `remove_whole` have left beside it where their process was killed."""
    name = re.compile(re.escape(f".{target.name}-") + "[a-z0-9_]{8}")  # as tempfile names them
    return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]


def swap(one: Path, other: Path) -> None:
    """Exchange two folders: in one step on Linux, elsewhere by way of a third name.

    Source: renameat2(2), RENAME_EXCHANGE.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if (
        renameat2 is not None
        and renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
    ):
        return
    aside = one.with_name(one.name + "-old")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def sync(path: Path) -> None:
    """Bring a file, or a folder's list of files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
