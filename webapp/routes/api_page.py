"""What a person reads of the API: its page, its description, and a run or a sheet's text as the request that writes it."""

from flask import Blueprint, Response, render_template, request

from generate import LISTS, OPTIONS, parse_with_preset
from webapp.api.code import as_curl, as_python, body_of
from webapp.api.description import describe
from webapp.api.fields import FIELDS, OURS
from webapp.api.guard import MOST
from webapp.http.at_home import connects_at_home
from webapp.http.request import home_link, settings
from webapp.runs.repository import find_run
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
def run_code(run_id: str) -> Response:
    """The request that would write a run."""
    run = find_run(run_id)
    folder, log = state().models.find_for(run), state().look(run).log
    return code(body_of(folder, log.prompt_ids, run.options))


@blueprint.post("/code")
def form_code() -> Response:
    """The request that would write on from the form as it stands."""
    folder = state().models.find(request.form.get("model") or state().models.preferred(settings()["RUBRIC_MODEL"]))
    given = {name: request.form.get(name) for name in ("preset", *(option.name for option in OPTIONS + LISTS))}
    sampling = parse_with_preset(given, dict(folder.defaults))
    ids = folder.encode_prompt(request.form.get("prompt", ""), "parse_special" in request.form)
    return code(body_of(folder, ids, sampling.as_dict()))


def code(body: dict) -> dict:
    """A request in both forms, for the sheet's script."""
    where = f"{address()}/v1"
    return {"curl": as_curl(where, body, needs_key()), "python": as_python(where, body, needs_key())}


def address() -> str:
    """This server's, without a slash at its end."""
    return home_link()["url"].rstrip("/")


def needs_key() -> bool:
    """Whether clients need one: those of this machine do not."""
    return not (home_link()["local"] and connects_at_home(request.environ))
