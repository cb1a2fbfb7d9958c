"""What is done to a sheet: typing, writing on, another try, undo. Everything here speaks JSON; the page is the form's."""

from flask import Blueprint, Response, jsonify, redirect, request, session, url_for

from generate import Refusal
from webapp.http.json_body import Body
from webapp.http.request import whole_number
from webapp.http.security import limited
from webapp.http.visitors import make_visitor, visitor
from webapp.runs.repository import find_run
from webapp.sheets.content import Content, closed
from webapp.sheets.pieces import Origin
from webapp.sheets.service import Asked
from webapp.sheets.spans import Spans, spans_from_json
from webapp.sheets.store import find_sheet, rev_after, stale
from webapp.sheets.tables import Sheet
from webapp.sheets.ways import AnotherWord, Retry, Way, WriteOn
from webapp.state import state
from webapp.views.lenses import LEGENDS
from webapp.views.versions import versions_of

blueprint = Blueprint("sheet", __name__)


@blueprint.post("/sheets")
def make():
    """A sheet of one's own: empty, or with what another one or a run says, and what was typed since."""
    body = Body.read()
    spans = spans_from(body.part("from"))
    about = {name: value for name, value in about_of(body).items() if value is not None}
    is_new = visitor() is None
    sheet = state().sheets.make(make_visitor(), is_new, spans, body.edits(), body.key(), **about)
    if is_new:
        session["owner"] = sheet.owner
    return told(sheet), 201


@blueprint.get("/s/<sheet_id>/state")
def current(sheet_id: str):
    """What the page shows."""
    return told(find_sheet(sheet_id))


@blueprint.get("/s/<sheet_id>/versions")
def older(sheet_id: str):
    """Its versions from number `from` on, of which a page shows the newest."""
    sheet, first = find_sheet(sheet_id), whole_number("from", given=request.args)
    return jsonify(versions=versions_of(sheet, state().sources, first))


@blueprint.post("/s/<sheet_id>/edits")
def type_in(sheet_id: str):
    """Typing. Answers where it led, and what there is to note; the page compares the length with its own."""
    body = Body.read()
    sheet = state().sheets.type(sheet_id, asked(body), body.edits())
    return jsonify(rev=rev_after(sheet, body.key()), **state().noted(sheet))


@blueprint.post("/s/<sheet_id>/write")
@limited
def write(sheet_id: str):
    """The model goes on from the caret."""
    body = Body.read()
    return begun(sheet_id, body, WriteOn(body.whole("at")))


@blueprint.post("/s/<sheet_id>/retry")
@limited
def retry(sheet_id: str):
    """The model tries again."""
    return begun(sheet_id, Body.read(), Retry())


@blueprint.post("/s/<sheet_id>/word")
@limited
def word(sheet_id: str):
    """The model goes on after another word, or again from its place."""
    body = Body.read()
    token = Origin(body.string("run"), body.whole("sample", -1), body.whole("place"))
    return begun(sheet_id, body, AnotherWord(token, body.whole("token", default=None)))


@blueprint.post("/s/<sheet_id>/take")
def take(sheet_id: str):
    """Some tokens of a suggestion: its first ones, or those behind what was taken of it before."""
    body = Body.read()
    stretch = body.string("suggestion"), body.whole("sample"), body.whole("from"), body.whole("to")
    return told(state().suggestions.take(sheet_id, asked(body), body.whole("at"), *stretch))


@blueprint.post("/s/<sheet_id>/flip")
def flip(sheet_id: str):
    """Another of the tries."""
    body = Body.read()
    return told(state().sheets.flip(sheet_id, asked(body), body.whole("to")))


@blueprint.post("/s/<sheet_id>/undo")
def undo(sheet_id: str):
    """The last change is taken back."""
    return told(state().sheets.undo(sheet_id, asked(Body.read()), -1))


@blueprint.post("/s/<sheet_id>/redo")
def redo(sheet_id: str):
    """What was taken back is done again."""
    return told(state().sheets.undo(sheet_id, asked(Body.read()), 1))


@blueprint.post("/s/<sheet_id>/back")
def back(sheet_id: str):
    """Something that was set aside is put back."""
    body = Body.read()
    return told(state().sheets.put_back(sheet_id, asked(body), body.whole("piece")))


@blueprint.post("/s/<sheet_id>/settings")
def settle(sheet_id: str):
    """Options, what is to be kept in mind, the lens. Answers what there is to note then."""
    body = Body.read()
    given = {name: value for name, value in about_of(body).items() if value is not None}
    memory, known = given.pop("memory", None), body.string("known_memory", None)
    sheet = state().sheets.settle(sheet_id, visitor(), given, memory, known)
    return jsonify(rev=sheet.rev, **state().noted(sheet))


@blueprint.post("/s/<sheet_id>/stop")
def stop(sheet_id: str):
    """The model stops; only the owner may ask."""
    state().sheets.stop(sheet_id, visitor())
    return Response(status=204)


@blueprint.post("/s/<sheet_id>/delete")
def delete(sheet_id: str):
    """Remove a sheet at once, with all that was written in it; only its owner may."""
    state().sheets.delete(sheet_id, visitor())
    state().forget_removed()
    return redirect(url_for("my_runs.runs"), 303)


def asked(body: Body) -> Asked:
    """What the request is based on."""
    seen, behind = body.whole("seen", default=None), body.string("behind", None)
    return Asked(visitor(), body.key(), body.whole("rev"), seen, behind)


def about_of(body: Body) -> dict:
    """What a request says of a sheet beside its text; None: nothing."""
    memory, lens = body.string("memory", None), body.string("lens", None)
    if lens and lens not in LEGENDS:
        raise Refusal("There is no lens {name!r}.", "lens", name=lens[:40])
    return {
        "options": body.options() if "options" in body else None,
        "memory": memory and memory.replace("\0", ""),  # PostgreSQL's text holds no NUL
        "lens": lens,
    }


def begun(sheet_id: str, body: Body, way: Way) -> Response:
    """The sheet in which the model writes, with the options that came along; `once` are others for this writing alone."""
    once = body.options("once") if "once" in body else None
    return told(state().sheets.write(sheet_id, asked(body), state().wish(body.options(), once), way))


def spans_from(source: Body | None) -> Spans:
    """What a new sheet begins with, just as its page shows it; raises Refusal where that is not there, or is another text
    by now."""
    here = state()
    if source is None:
        return ()
    if "sheet" in source:
        return spans_of_sheet(source)
    run = find_run(source.string("run"))
    view = here.look(run)
    number = source.whole("sample", default=None)
    if number is not None and number >= len(view.log.samples):
        raise Refusal(
            "sample must be from 0 to {most}, not {number}.", "sample", most=len(view.log.samples) - 1, number=number
        )
    return here.begun_with(run, number, source.whole("seen", default=None)).spans


def spans_of_sheet(source: Body) -> Spans:
    """Those that a visitor sees of a sheet at `rev`, with the `seen` tokens of what is being written in it, if a page says
    so; raises Stale where it was changed since."""
    other = find_sheet(source.string("sheet"))
    mine = other.owner == visitor()
    rev = other.rev if mine else other.shown_rev
    if source.whole("rev", default=rev) != rev:
        raise stale(rev)
    return closed(Content(spans_from_json(other.spans if mine else other.shown)), source.whole("seen", default=None))


def told(sheet: Sheet) -> Response:
    """What a visitor may see of a sheet."""
    return jsonify(state().sheet_state(sheet, visitor()))
