"""Whether the server is well, for the operator: the numbers of `/metrics` as small charts of the last hour."""

from flask import Blueprint, render_template

from webapp.state import state
from webapp.views.wellbeing import charts, facts, model_lines, verdict

blueprint = Blueprint("well", __name__, url_prefix="/workshop/well")


@blueprint.get("")
def well():
    """The page; it asks for itself again while it is open."""
    here = state()
    now = here.watcher.now()
    return render_template(
        "pages/well.html",
        verdict=verdict(now, here.models.problem(), here.disk),
        charts=charts(here.watcher.history, now),
        models=model_lines(now),
        facts=facts(now),
    )
