"""`/metrics`: how this server is, for Prometheus. By a key of the API, or from this machine without one."""

from flask import Blueprint, Response, request

from webapp.api.guard import guard, open_to_keys
from webapp.jobs.tables import JobState
from webapp.state import state
from webapp.watch import prometheus

blueprint = Blueprint("metrics", __name__)
guard(blueprint, takes_place=False)  # it is looked at when all places are taken


@blueprint.get("/metrics")
@open_to_keys
def metrics():
    """The numbers at this moment."""
    here, accept = state(), request.headers.get("Accept", "")
    body, content_type = prometheus.written(here.watcher.now(), here.models.hides, accept, map(str, JobState))
    return Response(body, content_type=content_type)
