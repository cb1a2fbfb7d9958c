"""The pages a person looks at: the form, and a run."""

from flask import Blueprint, abort, render_template, request

from generate import OPTIONS
from webapp.http.request import link_to, settings
from webapp.http.visitors import visitor
from webapp.runs.lineage import family_of
from webapp.runs.registry import live
from webapp.runs.repository import find_run
from webapp.runs.service import comparable, models
from webapp.views.lenses import LEGENDS
from webapp.views.run_view import look, start_samples, tool_facts
from webapp.views.samples import contact_sheet
from webapp.views.sentences import outlook
from webapp.views.training import find_training

blueprint = Blueprint("pages", __name__)

IDEAS = (
    "Once upon a time",
    "The king had three daughters, and the youngest",
    '"You must never open the last door," said the old woman',
    "Far out at sea, where the water is as blue as",
)


@blueprint.get("/")
def home():
    """The form; with ?prompt= or any other field it is filled in, with ?parent= it holds a run's text to be changed."""
    parent_id = request.args.get("parent")
    if parent_id is None:
        return form(request.args.to_dict())
    parent = find_run(parent_id)
    view = look(parent)
    values = {
        k: "\n".join(map(typed, v)) if k == "stop" else v
        for k, v in parent.options.items()
        if k != "seed" and (k, v) != ("max_new_tokens", 0)
    }
    values |= {"prompt": view.prompt_text, "model": parent.model, "parent": parent.id}
    number = request.args.get("sample", type=int)
    if number is not None and 0 <= number < len(view.log.samples):
        text = view.prompt_text + view.text(number).removesuffix("\ufffd")
        values |= {"prompt": text, "parent_sample": number, "samples": 1}
    return form(values | request.args.to_dict(), parent=parent)


def home_again(sentence: str, field: str | None) -> str:
    """The form as it was sent, with the one complaint there is about it."""
    values = {name: request.form.get(name, "") for name in ("prompt", "model", "stop", "parent", "parent_sample")}
    values |= {option.name: request.form.get(option.name, "") for option in OPTIONS}
    return form(values, problem=sentence, field=field)


def form(values: dict, **more) -> str:
    listed = models()
    chosen = next((m.folder for m in listed if m.name == values.get("model") and m.folder), None)
    chosen = chosen or next((m.folder for m in listed if m.name == settings()["RUBRIC_MODEL"] and m.folder), None)
    defaults = {option.name: option.default for option in OPTIONS} | dict(chosen.defaults if chosen else ())
    return render_template(
        "pages/home.html",
        values=values,
        defaults=defaults,
        options=OPTIONS,
        models=listed,
        chosen=values.get("model") or (chosen.name if chosen else settings()["RUBRIC_MODEL"]),
        loaded=live().engine.loaded if live().engine else None,
        ideas=IDEAS,
        busy=outlook(),
        **more,
    )


def typed(stop: str) -> str:
    """A stop string as a person types it on one line."""
    return stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


@blueprint.get("/r/<run_id>")
def run_page(run_id: str):
    run = find_run(run_id)
    view = look(run)
    facts = tool_facts(view, run.owner == visitor())  # before the text is read: done too early would lose its end
    samples = start_samples(view)
    return render_template(
        "pages/run.html",
        run=run,
        samples=samples,
        sheet=contact_sheet(view, samples, facts["done"]) if len(samples) > 1 else None,
        others=comparable(run),
        family=family_of(run),
        legends=LEGENDS,
        link=link_to(run.id),
        beginning=" ".join(view.text(0).split())[:200],
        **facts,
    )


@blueprint.get("/busy")
def busy():
    """How busy the model is, for a page that waits to be filled in."""
    return render_template("partials/busy.html", busy=outlook())


@blueprint.get("/models/<name>")
def model_page(name: str):
    """What is known of a model: where it came from, the certificate of its conversion, how it was trained."""
    model = next((listed for listed in models() if listed.name == name), None)
    if model is None:
        abort(404, "There is no such model here.")
    folder = model.folder
    certificate, training = (folder.certificate(), find_training(folder)) if folder else (None, None)
    return render_template("pages/model.html", model=model, certificate=certificate, training=training)
