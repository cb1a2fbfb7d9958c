"""The models as the operator's list shows them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from generate import Listed, gettext
from webapp.views.certificate import find_certificate
from webapp.views.model_facts import parameters, rounded, source_told
from webapp.views.training import find_training


@dataclass(frozen=True)
class Line:
    """One model: `size` is how many parameters, `made` where it is from and how it was trained, each in words."""

    name: str
    problem: str
    size: str
    megabytes: float
    made: tuple[str, ...]
    has_certificate: bool
    can: str
    cannot: str
    used: datetime | None
    is_hidden: bool
    is_default: bool


def lines(listed: Iterable[Listed], used: Mapping[str, datetime], hidden: Collection[str], default: str) -> list[Line]:
    """A line for each model, the one that is offered first before all others."""
    found = [line(one, used.get(one.name), one.name in hidden, one.name == default) for one in listed]
    return sorted(found, key=lambda line: not line.is_default)


def line(listed: Listed, used: datetime | None, is_hidden: bool, is_default: bool) -> Line:
    """What is said of one."""
    folder = listed.folder
    if folder is None:
        return Line(listed.name, str(listed.problem), "", 0, (), False, "", "", used, is_hidden, is_default)
    training = find_training(folder)
    made = (
        source_told(folder),
        training.sentence or training.problem if training else "",
    )
    return Line(
        folder.name,
        "",
        gettext("{count} parameters", count=rounded(parameters(folder.config))),
        sum(file.stat().st_size for file in folder.weights) / 1e6,
        tuple(filter(None, made)),
        find_certificate(folder) is not None,
        folder.can,
        folder.cannot,
        used,
        is_hidden,
        is_default,
    )
