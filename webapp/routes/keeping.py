"""The models as the operator has them: what each is, and what can be done to it."""

import shutil
from collections.abc import Iterator
from functools import partial

from flask import Blueprint, Response, redirect, render_template, request, url_for

from webapp.http.zipped import zipped
from webapp.jobs import naming
from webapp.sheets import renaming as sheets
from webapp.state import state
from webapp.views.kept_models import lines

blueprint = Blueprint("keeping", __name__, url_prefix="/workshop/models")


@blueprint.app_template_global()
def is_hidden(name: str) -> bool:
    """Whether a model is for the operator alone; nobody else has it in a list."""
    return name in state().choices.hidden


@blueprint.get("")
def models():
    """All models of this server, hidden ones and those that cannot be used included."""
    here = state()
    found = lines(here.models.all(), here.keeping.last_used(), here.choices.hidden, here.keeping.default)
    return render_template("pages/kept_models.html", models=found)


@blueprint.post("/<name>/describe")
def describe(name: str):
    """Say what it is good and bad at."""
    state().keeping.describe(name, request.form.get("can", ""), request.form.get("cannot", ""))
    return back(name)


@blueprint.post("/<name>/rename")
def rename(name: str):
    """Give it another name."""
    new = request.form.get("makes", "")
    jobs = state().jobs
    jobs.check_name(new)

    def also(old: str, new: str) -> None:
        sheets.rename_model(old, new)
        naming.rename_model(jobs, old, new)

    state().keeping.rename(name, new, also)
    return back(new)


@blueprint.post("/<name>/default")
def choose(name: str):
    """Offer it first."""
    state().keeping.choose(name)
    return back(name)


@blueprint.post("/<name>/hide")
def hide(name: str):
    """Keep it from visitors."""
    state().keeping.hide(name, True)
    return back(name)


@blueprint.post("/<name>/show")
def show(name: str):
    """Let visitors write with it again."""
    state().keeping.hide(name, False)
    return back(name)


@blueprint.post("/<name>/delete")
def delete(name: str):
    """Remove it for good."""
    naming.require_unused(state().jobs, name)
    state().keeping.remove(name)
    return redirect(url_for("keeping.models"), 303)


@blueprint.get("/<name>/transformers.zip")
def as_transformers(name: str):
    """Its folder, as `transformers` loads it."""
    folder = state().models.find(name)
    return packed(zipped(folder.path, name), f"{name}.zip")


@blueprint.get("/<name>/tensorflow.zip")
def as_tensorflow(name: str):
    """The same as a checkpoint of TensorFlow's; raises Refusal for what no such checkpoint can hold."""
    folder, file = state().models.find(name), f"{name}-tensorflow.zip"
    if request.method == "HEAD":
        return packed(iter(()), file)
    made = state().export.to_tensorflow(folder)
    answer = packed(zipped(made / name, name), file)
    answer.call_on_close(partial(shutil.rmtree, made, ignore_errors=True))
    return answer


def packed(parts: Iterator[bytes], name: str) -> Response:
    """A zip to be kept under a name."""
    answer = Response(parts, mimetype="application/zip")
    answer.headers.set("Content-Disposition", "attachment", filename=name)
    return answer


def back(name: str) -> Response:
    """To the model's line in the list."""
    return redirect(url_for("keeping.models", _anchor=name), 303)
