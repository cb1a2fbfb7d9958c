"""The page of a model, and what it writes of its examples."""

from flask import Blueprint, abort, redirect, render_template, url_for

from generate import Listed, ModelFolder
from webapp.http.security import limited
from webapp.runs.examples import SHOWN, examples_of
from webapp.state import state
from webapp.views.certificate import find_certificate
from webapp.views.model_facts import languages_told, size_told, window_told
from webapp.views.readme import find_readme
from webapp.views.run_view import SampleView
from webapp.views.training import find_training

blueprint = Blueprint("model", __name__)


@blueprint.get("/models/<name>")
def model_page(name: str):
    """What is known of a model: what it can, where it came from, the certificate of its conversion, how it was trained."""
    model = find_listed(name)
    folder = model.folder
    if folder is None:
        return render_template("pages/model.html", model=model)
    told = {"size": size_told(folder.config), "window": window_told(folder), "languages": languages_told(folder)}
    return render_template(
        "pages/model.html",
        model=model,
        told=told,
        certificate=find_certificate(folder),
        training=find_training(folder),
        readme=find_readme(folder.path),
        **samples_of(folder),
    )


@blueprint.get("/models/<name>/certificate")
def certificate(name: str):
    """What came of a model's conversion, under a link of its own."""
    model = find_listed(name)
    found = find_certificate(model.folder) if model.folder is not None else None
    if found is None:
        abort(404, "This model has no certificate.")
    return render_template("pages/certificate.html", model=model, certificate=found)


@blueprint.get("/models/<name>/samples")
def samples(name: str):
    """The part of the page that shows what the model writes, as far as it has."""
    model = find_listed(name)
    if model.folder is None:
        abort(404, "This model cannot be used.")
    return render_template("partials/model_samples.html", model=model, **samples_of(model.folder))


@blueprint.post("/models/<name>/samples")
@limited
def write_samples(name: str):
    """Let the model write what is missing."""
    model = find_listed(name)
    if model.folder is not None and state().models.problem() is None:
        state().examples.write(model.folder, examples_of(model.folder)[:SHOWN])
    return redirect(url_for("model.model_page", name=name, _anchor="samples"), 303)


def find_listed(name: str) -> Listed:
    """A model of the list; 404 where there is none of this name."""
    model = next((listed for listed in state().models.all() if listed.name == name), None)
    if model is None:
        abort(404, "There is no such model here.")
    return model


def samples_of(folder: ModelFolder) -> dict:
    """What a model wrote of its examples, whether more is on its way or missing, and whether it can be asked."""
    here, there, writing, missing = state(), [], False, False
    for example in examples_of(folder)[:SHOWN]:
        run = here.examples.find(folder, example)
        if run is not None:
            view = here.look(run)
            there.append({"run": run, "view": view, "html": SampleView(view, 0).news() or ""})
        elif here.examples.is_on_its_way(folder, example):
            writing = True
        else:
            missing = True
    can_write = here.models.problem() is None and here.models.is_served(folder.name)
    return {"samples": {"there": there, "writing": writing, "missing": missing}, "can_write": can_write}
