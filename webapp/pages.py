"""The pages a person looks at: the form, and a run."""

from flask import Blueprint, abort, current_app, render_template, request
from sqlalchemy.orm.exc import ObjectDeletedError

from generate import OPTIONS, Listed, Refusal, list_models
from webapp.http.request import link_to, settings
from webapp.http.visitors import visitor
from webapp.runs.lineage import family_of
from webapp.runs.registry import live
from webapp.runs.repository import GONE, find_run, find_vocabulary
from webapp.runs.tables import Run
from webapp.views.lenses import LEGENDS
from webapp.views.run_view import RunView, SampleView
from webapp.views.sentences import how_long
from webapp.views.training import find_training

blueprint = Blueprint("pages", __name__)

IDEAS = (
    "Once upon a time",
    "The king had three daughters, and the youngest",
    '"You must never open the last door," said the old woman',
    "Far out at sea, where the water is as blue as",
)


def models() -> list[Listed]:
    return list_models(current_app.config["MODELS"])


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
    facts = tool_facts(view, run.owner)  # before the text is read: done too early would lose its end
    samples = start_samples(view)
    return render_template(
        "pages/run.html",
        run=run,
        samples=samples,
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


def outlook() -> str:
    """One sentence on how long a run would have to wait that was sent now."""
    problem, engine = live().problem(), live().engine
    if engine is None or problem:
        return problem
    now = engine.outlook
    if not now.writing and not now.waiting:
        return "Nobody is writing; yours begins at once."
    writing = "One text is being written" if now.writing == 1 else f"{now.writing} texts are being written"
    if now.waiting >= engine.max_waiting:
        return f"{writing} and the line is full; please come back in a while."
    if not now.waiting and now.seconds == 0:
        return f"{writing}; there is room for yours."
    waiting = f" and {now.waiting} wait{'s' if now.waiting == 1 else ''} in line" if now.waiting else ""
    begins = (
        f"yours would begin in{about.removeprefix(',')}" if (about := how_long(now.seconds)) else "yours would wait"
    )
    return f"{writing}{waiting}; {begins}."


@blueprint.get("/models/<name>")
def model_page(name: str):
    """What is known of a model: where it came from, the certificate of its conversion, how it was trained."""
    model = next((listed for listed in models() if listed.name == name), None)
    if model is None:
        abort(404, "There is no such model here.")
    folder = model.folder
    certificate, training = (folder.certificate(), find_training(folder)) if folder else (None, None)
    return render_template("pages/model.html", model=model, certificate=certificate, training=training)


def start_samples(view: RunView) -> list[dict]:
    """What a page shows at once of each sample: its HTML up to now, and the count of tokens in it."""
    shown = []
    for number in range(len(view.log.samples)):
        sample = SampleView(view, number)
        shown.append(
            {"number": number, "html": sample.news() or "", "sent": sample.sent, "ending": view.ending(number)}
        )
    return shown


def tool_facts(view: RunView, owner: str) -> dict:
    """What the line of buttons under a story depends on."""
    return {"view": view, "done": view.log.done, "mine": owner == visitor()}


def look(run: Run) -> RunView:
    try:
        log = live().find(run)
        return RunView(run, log, find_vocabulary(run.vocabulary_id))
    except ObjectDeletedError:
        abort(410, GONE["deleted"])


def require_engine():
    engine = live().engine
    if engine is None:
        raise Refusal("This server has no engine, so it cannot start a run.")
    return engine
