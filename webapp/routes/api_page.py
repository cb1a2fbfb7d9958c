"""What a person reads of the API: its page, its description, and a run or a sheet's text as the request that writes it."""

from flask import Blueprint, abort, render_template, request

from webapp.api.code import as_curl, as_python, body_of
from webapp.api.description import describe
from webapp.api.fields import FIELDS, OURS
from webapp.api.guard import MOST
from webapp.http.at_home import connects_at_home
from webapp.http.json_body import Body
from webapp.http.private import is_private
from webapp.http.request import home_link, settings
from webapp.http.visitors import visitor
from webapp.runs.repository import find_run
from webapp.sheets.prompt import Draft
from webapp.sheets.service import Wish
from webapp.sheets.store import find_sheet
from webapp.state import state

blueprint = Blueprint("api_page", __name__)

BEGINNING = {"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0.8, "seed": 7}


@blueprint.get("/v1")
def page():
    """How the API is used, with this server's address, and what of it is not OpenAI's."""
    model = state().models.preferred(settings()["RUBRIC_MODEL"])
    body = {"model": model} | BEGINNING
    folder = next((listed.folder for listed in state().models.all() if listed.folder and listed.name == model), None)
    return render_template(
        "pages/api.html",
        address=address(),
        needs_key=needs_key(),
        curl=as_curl(f"{address()}/v1", body, needs_key()),
        python=as_python(f"{address()}/v1", body | {"logprobs": 3}, needs_key()),
        model=model,
        window=folder.config.n_positions if folder else None,
        fields=FIELDS,
        ours=OURS,
        most=MOST,
    )


@blueprint.get("/v1/openapi.json")
def description():
    """The API in OpenAPI's words."""
    return describe(address())


@blueprint.get("/r/<run_id>/code")
def run_code(run_id: str) -> dict:
    """The request that would write a run, or `?sample=` of it alone."""
    run, number = find_run(run_id), request.args.get("sample", type=int)
    folder, log, first, options = state().models.find_for(run), state().look(run).log, run.first_sample, run.options
    if number is not None:
        if not 0 <= number < len(log.samples):
            abort(404, "There is no such text in this run.")
        first, options = first + number, options | {"samples": 1}
    return code(body_of(folder, log.prompt_ids, options, first))


@blueprint.post("/s/<sheet_id>/code")
def sheet_code(sheet_id: str) -> dict:
    """The request by which the model would go on from a place in what somebody sees of a sheet."""
    body, here, sheet = Body.read(), state(), find_sheet(sheet_id)
    wish = here.wish(body.options())
    draft, _ = here.sheets.prepared(sheet, sheet.owner == visitor(), body.whole("rev"), body.whole("at"), wish)
    return going_on(wish, draft)


@blueprint.post("/code")
def empty_code() -> dict:
    """The request by which it would begin on an empty page, with what is to be kept in mind there."""
    body, here = Body.read(), state()
    wish = here.wish(body.options())
    return going_on(wish, here.sheets.prepared_empty(body.string("memory", "").replace("\0", ""), wish))


def going_on(wish: Wish, draft: Draft) -> dict:
    """The request that goes on from a sheet's text."""
    return code(body_of(wish.folder, draft.ids, wish.going_on(draft).as_dict()))


def code(body: dict) -> dict:
    """A request in both forms, for the sheet's script."""
    where = f"{address()}/v1"
    return {"curl": as_curl(where, body, needs_key()), "python": as_python(where, body, needs_key())}


def address() -> str:
    """This server's, without a slash at its end."""
    return home_link()["url"].rstrip("/")


def needs_key() -> bool:
    """Whether clients need one: those of this machine do not, unless the server is private."""
    return is_private() or not (home_link()["local"] and connects_at_home(request.environ))
