"""For whoever watches the server: does the process live, and can it write?"""

from flask import Blueprint

from webapp.http.private import is_inside
from webapp.state import state

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz():
    """200 as long as the process answers."""
    return {"ok": True}


@blueprint.get("/readyz")
def readyz():
    """200 when a model is loaded and the engine steps; 503 with the reason when not; no more than that to who is kept out."""
    problem = state().models.problem()
    told = {"reason": problem} if problem else {"models": state().models.loaded()}
    return {"ready": problem is None} | (told if is_inside() else {}), 503 if problem else 200
