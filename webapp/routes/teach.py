"""Teach a model a text: what is given, what is found in it, and what comes of it beside the model that it began with."""

from contextlib import suppress
from pathlib import Path

from flask import Blueprint, abort, redirect, render_template, request, url_for

from generate import Refusal, languages, parse_with_preset, plain_text
from webapp.http.body import roomy
from webapp.http.errors import refused
from webapp.http.request import to_job
from webapp.http.visitors import make_visitor
from webapp.jobs.tables import Job, JobState
from webapp.jobs.titles import learning
from webapp.runs import derivation
from webapp.runs.examples import beginnings_of
from webapp.runs.repository import find_run
from webapp.runs.service import sampling_of
from webapp.state import state
from webapp.views.presets import as_meant
from webapp.views.teach_form import GROUPS, MINUTES, PRESETS, TEXTS, USUAL, arguments, file_name, read
from webapp.views.training import find_training

blueprint = Blueprint("teach", __name__, url_prefix="/workshop/teach")

MOST = 32 * 2**20  # bytes of all texts together; larger ones are brought in pieces
BESIDE = {"max_new_tokens": "150", "samples": "1"}


@blueprint.app_template_global()
def outcome_of(name: str) -> str:
    """What came of a training, in a sentence or two; "" where the model has gone."""
    with suppress(Refusal):
        found = find_training(state().models.find(name))
        return found.problem or found.sentence if found else ""
    return ""


@blueprint.get("")
def form():
    """The form."""
    given = request.args.to_dict()
    model = given.get("model") or usual_model()
    return filled_in(USUAL | {"makes": free_name(), "model": model, "sample_prompt": opening_of(model)} | given)


@blueprint.get("/<job_id>")
def change(job_id: str):
    """The form of a training that has not begun, or failed; its text stays."""
    job = find(job_id)
    return filled_in(job.about["fields"] | {"makes": job.makes}, job=job)


@blueprint.post("")
@roomy(MOST)
def teach():
    """Keep the text, and have it looked at."""
    fields, texts = read(request.form), given_texts()
    if not texts:
        raise Refusal("Paste a text, or choose a file.", "text")
    check(fields)
    files = list(texts)

    def fill(folder: Path) -> None:
        (folder / TEXTS).mkdir()
        for name, body in texts.items():
            (folder / TEXTS / name).write_bytes(body)

    job = state().jobs.submit(
        "finetune",
        arguments(fields, files),
        titled(fields, files),
        fields["makes"],
        fill,
        about(fields, files),
        look=True,
    )
    return to_job(job.id)


@blueprint.post("/<job_id>")
def teach_otherwise(job_id: str):
    """Have the same text looked at with other options."""
    job, fields = find(job_id), read(request.form)
    check(fields)
    files = job.about["files"]
    told = {"title": titled(fields, files), "about": about(fields, files)}
    state().jobs.look(job, arguments(fields, files), fields["makes"], **told)
    return to_job(job.id)


@blueprint.post("/<job_id>/beside")
def beside(job_id: str):
    """Let the new model write from the opening, and the one that it began with beside it, with the same seed."""
    job, here = state().jobs.find(job_id), state()
    if job is None or job.kind != "finetune" or job.state != JobState.DONE:
        abort(404, "There is no such model here.")
    new, base = here.models.find(job.makes), here.models.find(job.about["model"])
    sampling = parse_with_preset(as_meant(BESIDE), here.models.defaults_for(new))
    opening = plain_text(job.about["fields"].get("sample_prompt", ""))
    owner = make_visitor()
    first = find_run(here.service.start(new, derivation.fresh(new, opening), sampling, owner))
    here.models.require_comparable(first, base)
    begun = derivation.beside(first, here.look(first).log.prompt)
    second = here.service.start(base, begun, sampling_of(first, preset=""), owner)
    return redirect(url_for("comparison.side_by_side", first=first.id, second=second), 303)


@blueprint.errorhandler(Refusal)
def again(refusal: Refusal):
    """The form as it was sent, with the one complaint there is about it."""
    if request.endpoint not in ("teach.teach", "teach.teach_otherwise"):
        return refused(refusal)
    values, job = request.form.to_dict(), state().jobs.find((request.view_args or {}).get("job_id", ""))
    return refused(refusal, filled_in(values, problem=str(refusal), field=refusal.field, job=job))


def find(job_id: str) -> Job:
    """A training that may begin otherwise; 404 where there is none."""
    job = state().jobs.find(job_id)
    if job is None or job.kind != "finetune" or job.state not in (JobState.DRAFT, JobState.FAILED):
        abort(404, "There is no such training, or it has begun.")
    return job


def filled_in(values: dict, **more) -> str:
    """The page with the form."""
    return render_template("pages/teach.html", values=values, groups=GROUPS, presets=PRESETS, minutes=MINUTES, **more)


def check(fields: dict[str, str]) -> None:
    """Raise Refusal where model or name are missing, or the model is not here."""
    for name in ("makes", "model"):
        if name not in fields:
            raise Refusal("{name} is missing from the form.", name, name=name)
    state().models.find(fields["model"])


def given_texts() -> dict[str, bytes]:
    """The files by the names that they will have, and what was pasted as one more."""
    found: dict[str, bytes] = {}
    for file in request.files.getlist("files"):
        if file.filename:
            found[file_name(file.filename, list(found))] = file.read()
    pasted = plain_text(request.form.get("text", ""))
    if pasted.strip():
        found[file_name("text.txt", list(found))] = pasted.encode("utf-8", "replace")
    return found


def about(fields: dict[str, str], files: list[str]) -> dict:
    """What its row keeps for those who change it, or write with what it made."""
    return {"fields": fields, "files": files, "model": fields["model"]}


def titled(fields: dict[str, str], files: list[str]) -> str:
    """What the job is called."""
    with languages.speaking(languages.ENGLISH):  # pages put it into theirs
        return learning(fields["model"], files)


def usual_model() -> str:
    """The model that is offered first."""
    return state().keeping.default


def opening_of(model: str) -> str:
    """What a model is asked to go on from while it learns, in the language of its vocabulary."""
    folder = None
    with suppress(Refusal):  # there is no such model, as the form says once it is sent
        folder = state().models.find(model)
    return beginnings_of(folder)[0].prompt


def free_name() -> str:
    """A name that no model has."""
    taken = {listed.name for listed in state().models.all()} | {job.makes for job in state().jobs.all()}
    names = (f"my-{usual_model()}{f'-{n}' if n > 1 else ''}" for n in range(1, 10_000))
    return next(name for name in names if name not in taken)
