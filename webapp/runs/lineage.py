"""A run's family: everything that came from the same root, as a small tree, deleted and hidden runs included by name alone.

An edited prompt stands beside the prompt it was, as a root of its own.
"""

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import load_only

from webapp.runs.kinds import NOBODY, Relation
from webapp.runs.tables import Gone, Run, db

MOST = 200  # relatives shown
PAIRS = {Relation.BESIDE: "beside", Relation.SCORE: "shift"}  # addresses of the pages that show both runs


@dataclass
class Member:
    """One run of the family, and what came from it, the oldest first. `here`: the one that is looked at.

    `relation` is the one to its parent; None: there is none. Of a `shown` one, which the server wrote to be looked into by
    all, only what leads from it to the run here is a relative: what others made of it is theirs.
    """

    id: str
    parent_id: str | None
    relation: str | None
    link: str
    root: bool = False  # stands beside the run that it came from
    gone: bool = False
    here: bool = False
    shown: bool = False
    children: list["Member"] = field(default_factory=list)


def family_of(run: Run) -> list[Member]:
    """The roots of the family a run belongs to; none when it has no relatives."""
    members = {run.id: member(run)}
    members[run.id].here = True
    climb(run, members)
    ids = [one.id for one in members.values() if not one.shown]
    while ids and len(members) < MOST:
        ids = descend(ids, members)
    if len(members) == 1:
        return []
    first = next(one for one in members.values() if one.parent_id not in members)
    roots = [first]
    for one in members.values():
        if one.root and one.parent_id == first.id:
            roots.append(one)
        elif one is not first:
            members[one.parent_id].children.append(one)
    return roots


def climb(run: Run, members: dict[str, Member]) -> None:
    """Add a run's ancestors, as far as there is a mark of them."""
    parent_id = run.parent_id
    while parent_id and parent_id not in members and len(members) < MOST:
        found = db.session.get(Run, parent_id) or db.session.get(Gone, parent_id)
        if found is None:
            return
        members[parent_id] = member(found)
        parent_id = found.parent_id


def descend(ids: list[str], members: dict[str, Member]) -> list[str]:
    """Add the children of some runs; return the ids of the new ones."""
    columns = load_only(Run.id, Run.owner, Run.parent_id, Run.relation, Run.parent_sample, Run.created, Run.hidden)
    runs = select(Run).where(Run.parent_id.in_(ids)).options(columns).order_by(Run.created).limit(MOST)
    gone = select(Gone).where(Gone.parent_id.in_(ids)).limit(MOST)
    new = [one for one in [*db.session.scalars(runs), *db.session.scalars(gone)] if one.id not in members]
    members |= {one.id: member(one) for one in new}
    return [one.id for one in new]


def member(found: Run | Gone) -> Member:
    """A run, or what is left to be seen of one that is gone or hidden, as the tree shows it."""
    if isinstance(found, Gone) or found.hidden:
        return Member(found.id, found.parent_id, None, "", gone=True)
    link = f"/r/{found.id}"
    if found.relation in PAIRS:
        link = f"/r/{found.parent_id}/{PAIRS[found.relation]}/{found.id}"
    prompt_alone = found.relation == Relation.EDIT and found.parent_sample is None
    return Member(found.id, found.parent_id, found.relation, link, prompt_alone, shown=found.owner == NOBODY)
