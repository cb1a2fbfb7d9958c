"""What others write here, for the operator alone: looked through, hidden, deleted; and who is kept out for a time."""

from datetime import datetime

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for

from generate import Refusal
from webapp.api.keys import block_key, key_of, list_keys
from webapp.http.addresses import hash_of
from webapp.http.request import settings
from webapp.moderation import blocks, overview, reports
from webapp.moderation.overview import Which
from webapp.moderation.tables import Kind
from webapp.runs.kinds import NOBODY
from webapp.runs.moments import now
from webapp.runs.repository import any_run
from webapp.runs.tables import Run, db
from webapp.sheets.store import any_sheet
from webapp.sheets.tables import Sheet
from webapp.state import state
from webapp.views.excerpts import entries
from webapp.views.exports import text_of_run
from webapp.views.sheet_state import text_shown
from webapp.views.versions import versions

blueprint = Blueprint("moderation", __name__, url_prefix="/workshop")

PAGE = 20  # entries


@blueprint.get("/written")
def written():
    """All sheets and runs, the last changed first; `?q=` finds words, `?which=` is a `Which`, `?by=` names something of the
    visitor whose things are wanted, `?page=` counts from 1."""
    query = request.args.get("q", "").replace("\0", "").strip()
    asked, page = request.args.get("which", Which.ALL), request.args.get("page", 1, type=int)
    if asked not in list(Which) or not (1 <= page <= 1_000_000):
        abort(404, "There is no such list.")
    by = request.args.get("by", "")
    owner = find(*by.split("-", 1)).owner if "-" in by else None
    wanted = overview.found(query, Which(asked), owner)
    total = overview.count(wanted)
    names = list(map(tuple, db.session.execute(wanted.offset((page - 1) * PAGE).limit(PAGE)).all()))
    return render_template(
        "pages/written.html",
        items=entries(names, state().sources, state().vocabularies),
        marks=overview.marks_of(names),
        total=total,
        which=asked,
        query=query,
        by=by,
        page=page,
        more=total > page * PAGE,
        reported=reports.count_reported(),
    )


@blueprint.get("/written/<kind>/<name>")
def one(kind: str, name: str):
    """One of them whole, with what was said of it and what can be done; a version stands on its sheet's page."""
    thing = find(kind, name)
    if isinstance(thing, Run) and thing.sheet_id and any_sheet(thing.sheet_id):
        return redirect(url_for("moderation.one", kind=Kind.SHEET, name=thing.sheet_id), 303)
    address, key = overview.address_of(thing), key_of(thing.owner)
    return render_template(
        "pages/written_one.html",
        kind=kind,
        thing=thing,
        text=text_of(thing),
        versions=versions_of(thing),
        said=overview.reports_of(thing),
        reasons=reports.REASONS,
        from_there=overview.runs_from(address) if address else None,
        until=address and blocks.blocked_until(address),
        days=blocks.KEPT.days,
        key=key,
        key_until=key and in_force(key.blocked_until),
        is_ours=thing.owner == NOBODY,
        spans=blocks.SPANS,
        shared=is_one_address(),
    )


@blueprint.post("/written/<kind>/<name>/hide")
def hide(kind: str, name: str):
    """Let nobody else see it."""
    state().taking_down.hide(find(kind, name))
    state().forget_removed()
    return back(kind, name)


@blueprint.post("/written/<kind>/<name>/show")
def show(kind: str, name: str):
    """Let everybody see it again who has its link."""
    state().taking_down.show(find(kind, name))
    return back(kind, name)


@blueprint.post("/written/<kind>/<name>/delete")
def delete(kind: str, name: str):
    """Remove it for good."""
    state().taking_down.delete(find(kind, name))
    state().forget_removed()
    reports.forget_reports()
    return redirect(url_for("moderation.written"), 303)


@blueprint.post("/written/<kind>/<name>/put-aside")
def put_aside(kind: str, name: str):
    """Forget what was said of it."""
    reports.put_aside(overview.reports_of(find(kind, name)))
    return back(kind, name)


@blueprint.post("/written/<kind>/<name>/block")
def block(kind: str, name: str):
    """Let nothing be written from where it came from, for a time; what was written stays."""
    address = overview.address_of(find(kind, name))
    if address is None:
        raise Refusal("It is not known any more from which address this was written.")
    blocks.block(address, blocks.span_of(request.form.get("days", "")))
    return back(kind, name)


@blueprint.get("/blocks")
def blocked():
    """Who may not write just now, and the keys of the API."""
    addresses = [(one, overview.runs_from(one.address)) for one in blocks.blocked()]
    keys = [(key, in_force(key.blocked_until)) for key in list_keys()]
    return render_template(
        "pages/blocks.html", addresses=addresses, keys=keys, spans=blocks.SPANS, shared=is_one_address()
    )


@blueprint.post("/blocks")
def block_address():
    """Let nothing be written from an address that was typed."""
    given = request.form.get("address", "")
    address = hash_of(given)
    if address is None:
        raise Refusal("address must be one such as 203.0.113.7 or 2001:db8::7, not {given!r}.", given=given[:40])
    blocks.block(address, blocks.span_of(request.form.get("days", "")))
    return redirect(url_for("moderation.blocked"), 303)


@blueprint.post("/blocks/lift")
def lift():
    """Let an address write again."""
    blocks.lift(request.form.get("address", "").replace("\0", ""))
    return redirect(url_for("moderation.blocked"), 303)


@blueprint.post("/blocks/key")
def block_one_key():
    """Let a key be good for nothing for a time, or again from now on where `days` is empty."""
    days = request.form.get("days", "")
    block_key(request.form.get("name", "").replace("\0", ""), blocks.span_of(days) if days else None)
    return redirect(url_for("moderation.blocked"), 303)


def find(kind: str, name: str) -> Run | Sheet:
    """A run or a sheet, hidden or not; 404 where there is none."""
    thing = {Kind.RUN: any_run, Kind.SHEET: any_sheet}.get(kind, lambda _: None)(name)
    return thing if thing is not None else abort(404, "There is no such thing here any more.")


def text_of(thing: Run | Sheet) -> str:
    """All of it, also what others do not see of a sheet."""
    if isinstance(thing, Run):
        return text_of_run(state().look(thing))
    return text_shown(thing, True, state().sources)


def versions_of(thing: Run | Sheet) -> list:
    """A sheet's, the newest first; of a run there are none."""
    return list(versions(thing)) if isinstance(thing, Sheet) else []


def in_force(until: datetime | None) -> datetime | None:
    """The end of a block, unless that is over."""
    return until if until and until > now() else None


def is_one_address() -> bool:
    """Whether a proxy names addresses that are not believed: then all visitors seem to have one."""
    return not settings()["TRUSTED_PROXIES"] and "X-Forwarded-For" in request.headers


def back(kind: str, name: str) -> Response:
    """To its page."""
    return redirect(url_for("moderation.one", kind=kind, name=name), 303)
