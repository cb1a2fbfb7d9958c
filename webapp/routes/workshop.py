"""The workshop for the operator alone (`http/operator.py`): what is being done there, and each job by itself."""

from flask import Blueprint, abort, redirect, render_template, url_for

from webapp.http.request import to_job
from webapp.jobs.tables import Job
from webapp.moderation.reports import count_reported
from webapp.state import state
from webapp.views.job_view import JobView

blueprint = Blueprint("workshop", __name__, url_prefix="/workshop")


@blueprint.get("")
def jobs():
    """What is being done, what waits, and what was done."""
    views = list(map(look, state().jobs.all()))
    return render_template("pages/workshop.html", views=views, reported=count_reported())


@blueprint.get("/jobs/<job_id>")
def job(job_id: str):
    """One job."""
    return render_template("pages/job.html", view=look(find(job_id)))


@blueprint.get("/jobs/<job_id>/now")
def now(job_id: str):
    """The part of its page that changes while it is done."""
    return render_template("partials/job.html", view=look(find(job_id)))


@blueprint.post("/jobs/<job_id>/begin")
def begin(job_id: str):
    """Put it in line: what was only looked at, was stopped, or failed."""
    found = find(job_id)
    state().jobs.begin(found)
    return to_job(found.id)


@blueprint.post("/jobs/<job_id>/stop")
def stop(job_id: str):
    """Let it save and stop."""
    found = find(job_id)
    state().jobs.stop(found)
    return to_job(found.id)


@blueprint.post("/jobs/<job_id>/throw-away")
def throw_away(job_id: str):
    """Remove it with what it left half-made."""
    state().jobs.throw_away(find(job_id))
    return redirect(url_for("workshop.jobs"), 303)


def find(job_id: str) -> Job:
    """A job; 404 where there is none, as when it was thrown away."""
    return state().jobs.find(job_id) or abort(404, "There is no such job any more.")


def look(job: Job) -> JobView:
    """A job as pages show it."""
    jobs = state().jobs
    return JobView.of(job, jobs.place(job), jobs.machine)
