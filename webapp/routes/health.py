"""For whoever watches the server: does the process live, and can it write?"""

from flask import Blueprint

from webapp.state import state

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz():
    """200 as long as the process answers."""
    return {"ok": True}


@blueprint.get("/readyz")
def readyz():
    """200 when a model is loaded and the engine steps; 503 with the reason when not."""
    problem = state().models.problem()
    return ({"ready": False, "reason": problem}, 503) if problem else {"ready": True, "models": state().models.loaded()}
