"""Bring a model: the form for it, and the answers to what a conversion asks."""

from contextlib import suppress

from flask import Blueprint, abort, render_template, request

from generate import Refusal
from webapp.http.request import to_job
from webapp.jobs.bringing import KIND, can_try_again, question_of
from webapp.jobs.tables import Job
from webapp.state import state
from webapp.uploads.refusals import Missing
from webapp.views.certificate import find_certificate

blueprint = Blueprint("bring", __name__, url_prefix="/workshop/bring")
blueprint.add_app_template_global(question_of)
blueprint.add_app_template_global(can_try_again)


@blueprint.app_template_global()
def certificate_of(name: str) -> dict | None:
    """The certificate of a model; None where it has none, or is not here any more."""
    with suppress(Refusal):
        return find_certificate(state().models.find(name))
    return None


@blueprint.app_template_global()
def model_names() -> list[str]:
    """The models that are here, and whole."""
    return [listed.name for listed in state().models.all() if listed.folder]


@blueprint.get("")
def page():
    """The form."""
    return form({})


@blueprint.post("")
def bring():
    """Begin a conversion; what cannot be stays in the form, with a sentence, and what was uploaded stays too."""
    given = {name: request.form.get(name, "").strip() for name in ("makes", "path", "hub")}
    try:
        if given["path"]:
            job = state().bringing.from_path(given["path"], given["makes"])
        elif given["hub"]:
            job = state().bringing.from_hub(given["hub"], given["makes"])
        else:
            job = state().bringing.from_uploads(request.form.getlist("upload"), given["makes"])
    except Refusal as refusal:
        return form(given, str(refusal)), getattr(refusal, "status", 422)
    return to_job(job.id)


@blueprint.post("/<job_id>/heads")
def heads(job_id: str):
    """How many attention heads it has."""
    job = find(job_id)
    state().bringing.answer_heads(job, request.form.get("heads", "").strip())
    return to_job(job.id)


@blueprint.post("/<job_id>/vocabulary")
def vocabulary(job_id: str):
    """Whose vocabulary it has."""
    job, whose = find(job_id), request.form.get("whose", "")
    uploads = request.form.getlist("upload")
    if whose == "upload" and not uploads:
        raise Refusal("Choose the files of the vocabulary first: encoder.json with vocab.bpe, or tokenizer.json.")
    folder = state().models.find(request.form.get("model", "")).path if whose == "model" else None
    state().bringing.answer_vocabulary(job, folder, uploads if whose == "upload" else [])
    return to_job(job.id)


def form(given: dict[str, str], problem: str = "") -> str:
    """The page, with what was given in it."""
    kept = []
    for upload_id in request.form.getlist("upload"):
        with suppress(Missing):
            kept.append(state().uploads.find(upload_id))
    return render_template("pages/bring.html", given=given, problem=problem, uploads=kept)


def find(job_id: str) -> Job:
    """A conversion of this machine's; 404 where there is none, as when it was thrown away."""
    job = state().jobs.find(job_id)
    if job is None or job.kind != KIND or job.machine != state().jobs.machine:
        abort(404, "There is no such conversion here any more.")
    return job
