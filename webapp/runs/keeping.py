"""What the operator does to the models that are here: describe, rename, hide, choose, remove. Runs keep their text."""

import re
import shutil
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select, update

from generate import Refusal, model_homes, read_object, write_json
from webapp.runs.choices import Choices
from webapp.runs.models import Models
from webapp.runs.tables import Run, db

LONGEST = 600  # characters of a description
REMOVED = "-removed"  # ends the name, which begins with a dot, of a folder that is being removed


@contextmanager
def kept(name: str):
    """Raise Refusal in the place of an OSError: the folder cannot be changed."""
    try:
        yield
    except OSError as error:
        raise Refusal("The folder of {name} cannot be changed: {reason}.", name=name, reason=error.strerror) from None


class Keeping:
    """`usual` is the model that is offered first where none was chosen."""

    def __init__(self, models: Models, choices: Choices, usual: str):
        self._models, self._choices, self._usual = models, choices, usual

    def path(self, name: str) -> Path:
        """The folder of a model, whole or not; raises Refusal where there is none."""
        if name in {listed.name for listed in self._models.all()}:
            for home in model_homes(self._models.folder):
                if (home / name).is_dir():
                    return home / name
        raise Refusal("There is no model called {name!r} here.", "model", name=name[:80])

    @property
    def default(self) -> str:
        """The model that is offered first."""
        return self._models.preferred(self._usual)

    def last_used(self) -> dict[str, datetime]:
        """When each model was last asked to write, in UTC, by its name."""
        asked = select(Run.model, func.max(Run.created)).group_by(Run.model)
        return dict(db.session.execute(asked).all())

    def choose(self, name: str) -> None:
        """Offer a model first; raises Refusal where it cannot be used, or is hidden."""
        self._models.find(name)
        if name in self._choices.hidden:
            raise Refusal("{name} is hidden from visitors; show it to them before it is offered first.", name=name)
        with kept(name):
            self._choices.choose(name)

    def hide(self, name: str, hidden: bool) -> None:
        """Keep a model from visitors, or show it again; raises Refusal for the one that is offered first."""
        self.path(name)
        if hidden:
            self._require_another_default(name)
        with kept(name):
            self._choices.hide(name, hidden)

    def describe(self, name: str, can: str, cannot: str) -> None:
        """Say what a model is good and bad at; raises Refusal."""
        folder = self._models.find(name)
        said = {"can": one_line("can", can), "cannot": one_line("cannot", cannot)}
        file = folder.path / "rubric.json"
        manifest = read_object(file) if file.exists() else {}
        with kept(name):
            write_json(file, {"format": 1, "source": folder.source} | manifest | said)

    def rename(self, name: str, new: str, also: Callable[[str, str], None]) -> None:
        """Give a model another name, which nothing has; its runs know it by that. `also` does the same elsewhere in the
        database. Raises Refusal, and then all is as it was.

        A hidden model is hidden under both names until the last step, so that none of them shows it, wherever this ends.
        """
        path = self.path(name)
        target, moved, hidden = path.with_name(new), False, name in self._choices.hidden
        try:
            with kept(name):
                if hidden:
                    self._choices.hide(new, True)
                db.session.execute(update(Run).where(Run.model == name).values(model=new))
                also(name, new)
                path.rename(target)
                moved = True
            db.session.commit()
        except BaseException:
            db.session.rollback()
            if moved:
                target.rename(path)
            if hidden:
                with suppress(OSError):  # a name that nothing has may stay hidden
                    self._choices.hide(new, False)
            raise
        with kept(name):
            self._choices.rename(name, new)
            if self._usual == name and self._choices.default is None:
                self._choices.choose(new)

    def remove(self, name: str) -> None:
        """Remove a model for good; raises Refusal for the one that is offered first."""
        path = self.path(name)
        self._require_another_default(name)
        with kept(name):
            aside = path.with_name(f".{name}{REMOVED}")  # so it is gone in one step
            discard(aside)
            path.rename(aside)
            discard(aside)
            self._choices.rename(name, None)  # last, when there is room on the disk for it

    def sweep(self) -> None:
        """Remove what a server that was killed had not yet removed of models that are gone."""
        for home in model_homes(self._models.folder):
            for aside in home.glob(f".*{REMOVED}"):
                discard(aside)

    def _require_another_default(self, name: str) -> None:
        if name == self.default:
            raise Refusal("{name} is the model that the page offers first; choose another one for that.", name=name)


def discard(path: Path) -> None:
    """Remove a folder, as far as it can be; of a link elsewhere the link alone."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def one_line(field: str, text: str) -> str:
    """A description, on one line; raises Refusal where it is too long."""
    line = re.sub(r"\s+", " ", text).strip()
    if len(line) > LONGEST:
        raise Refusal(
            "A description must have {limit} characters at the most, not {given}.",
            field,
            limit=LONGEST,
            given=len(line),
        )
    return line
