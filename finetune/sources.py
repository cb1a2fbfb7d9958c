"""The files that are meant: named, in folders, by a pattern, or from stdin."""

import glob
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from generate import Refusal


def find_sources(given: Sequence[str], scratch: Path) -> list[Path]:
    """The files that are meant, each once: of folders and globs those that are not hidden, and no pipes, sorted.

    What can be read but once, stdin ("-") or a pipe, is copied into a file in `scratch`, and is that file from then on.
    Raises Refusal for what is not there.
    """
    found: dict[Path, Path] = {}
    for name in dict.fromkeys(given):
        place = scratch if name == "-" else scratch / f"{crc32(os.fsencode(os.path.realpath(name))):08x}"
        for file in files_of(name, place / ("stdin" if name == "-" else Path(name).name)):
            found.setdefault(file.resolve(), file)
    if not found:
        raise Refusal("No file was given.")
    return [*found.values()]


def files_of(name: str, copy: Path) -> list[Path]:
    """The files that one argument means; a stream is copied to `copy`. Raises Refusal."""
    path = Path(name)
    if name == "-":
        return [copied(sys.stdin.buffer, copy)]
    if path.is_dir():
        found = files_in(path)
    elif path.is_file():
        return [path]
    elif copy.exists():  # looked for first: to open a pipe whose writer has gone is to wait for another
        return [copy]
    elif path.exists():
        with path.open("rb") as pipe:
            return [copied(pipe, copy)]
    elif glob.has_magic(name):
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        some = [files_in(match) if match.is_dir() else [match] for match in matches if not match.is_fifo()]
        found = [file for files in some for file in files]
    else:
        raise Refusal("There is no {path}.", path=name)
    if not found:
        raise Refusal("There is no file in {path}." if path.is_dir() else "No file is named like {path}.", path=name)
    return found


def files_in(folder: Path) -> list[Path]:
    """All files below, sorted, without hidden ones and those in hidden folders."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in names if not name.startswith(".") and Path(where, name).is_file()]
    return sorted(found)


def copied(stream, target: Path) -> Path:
    """A stream as a file; the second time it is asked for, the file is there already."""
    if target.exists():
        return target
    try:
        target.parent.mkdir(exist_ok=True)
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out, 2**20)
    except OSError as error:
        raise Refusal(
            "{file} cannot be copied to {folder}: {reason}.",
            file=target.name,
            folder=target.parent,
            reason=error.strerror or error,
        ) from None
    return target
