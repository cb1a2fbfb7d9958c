"""OpenAI's completions: `POST /v1/completions`, whole or streamed, and the models that can be asked."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from flask import Blueprint, Response, g, request

from generate import ModelFolder, Refusal
from webapp.api.body import json_body
from webapp.api.completions import Completion
from webapp.api.errors import Failed, event_of, not_here
from webapp.api.guard import guard, open_to_keys
from webapp.api.work import until_done
from webapp.http.client import Client
from webapp.http.event_stream import event_stream
from webapp.http.request import link_to
from webapp.state import state

log = logging.getLogger(__name__)
blueprint = Blueprint("api", __name__)
guard(blueprint)

CLIENT_LEFT = 499  # nginx's word for it
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@blueprint.route("/v1/completions", methods=["POST", "OPTIONS"])
@open_to_keys
def completions():
    """Write on from one prompt or several."""
    client = Client.of_request()
    asked, completion = state().api.completion(json_body(), g.owner, links(), g.address)
    g.held.callback(completion.work.close)
    if asked["stream"]:
        return event_stream(Streamed(pieces(completion, client), g.held.pop_all()))
    for _ in until_done(completion.work, client.has_left):
        pass
    if not completion.work.done:
        return Response(status=CLIENT_LEFT)  # which nobody reads
    return Response(completion.answer(), mimetype="application/json")


def links() -> Callable[[str], str]:
    """How the address of a run is made of its id, also when the request's context is gone."""
    beginning = link_to("-")["url"].removesuffix("-")
    return lambda run_id: beginning + run_id


class Streamed:
    """An answer in pieces. What it holds is let go of when it is closed, as WSGI servers do in every case."""

    def __init__(self, parts: Iterator[str], held: ExitStack):
        self._parts, self._held = parts, held

    def __iter__(self) -> "Streamed":
        return self

    def __next__(self) -> str:
        return next(self._parts)

    def close(self) -> None:
        """End what is not done, once."""
        self._parts.close()
        self._held.close()


def pieces(completion: Completion, client: Client) -> Iterator[str]:
    """The events of an answer. What goes wrong is the last one but for the end."""
    try:
        for _ in until_done(completion.work, client.has_left):
            if text := completion.pieces():
                yield text
    except Refusal as refusal:
        yield event_of(refusal)
    except Exception:
        log.exception("a streamed answer failed")
        yield event_of(Failed("Something broke on our side."))
    yield completion.ending()


@blueprint.route("/v1/models", methods=["GET", "OPTIONS"])
@open_to_keys
def models():
    """The models that can be asked for."""
    found = [listed.folder for listed in state().models.all() if listed.folder]
    return {"object": "list", "data": [model_as_dict(f) for f in found if state().models.is_served(f.name)]}


@blueprint.route("/v1/models/<path:name>", methods=["GET", "OPTIONS"])
@open_to_keys
def model(name: str):
    """One of them."""
    return model_as_dict(state().api.model(name))


def model_as_dict(folder: ModelFolder) -> dict:
    """A model as OpenAI lists one, with the size of its window as vLLM does."""
    created = 0
    with suppress(OSError):  # it is being removed
        created = int(folder.weights[0].stat().st_mtime)
    return {
        "id": folder.name,
        "object": "model",
        "created": created,
        "owned_by": "rubric",
        "max_model_len": folder.config.n_positions,
    }


@blueprint.route("/v1/<path:_path>", methods=METHODS)
@open_to_keys
def nothing(_path: str):
    """An address that there is not, or not for this method, in the form that clients of the API read."""
    raise not_here(request.method, request.path)
