"""The form: empty, filled in, sent, and sent back with what is wrong with it."""

from contextlib import suppress
from dataclasses import replace

from flask import Blueprint, render_template, request

from generate import (
    LISTS,
    OPTIONS,
    PRESETS,
    ModelFolder,
    Refusal,
    find_preset,
    parse_with_preset,
    plain_text,
    split_half_character,
)
from webapp.http.errors import refused
from webapp.http.request import home_link, is_fragment, link_to, settings, to_run, whole_in, whole_number
from webapp.http.security import limited
from webapp.http.visitors import make_visitor, visitor
from webapp.runs import derivation
from webapp.runs.examples import examples_of
from webapp.runs.kinds import Relation
from webapp.runs.repository import RemovedRun, UnknownRun, find_run, get_run
from webapp.runs.tables import Run
from webapp.sheets.store import find_sheet
from webapp.state import state
from webapp.views.hints import brings_spaces, script_hint
from webapp.views.lenses import LEGENDS, untold
from webapp.views.presets import OWN, as_meant, preset_of, to_write_on, when_empty
from webapp.views.run_view import RunView, SampleView
from webapp.views.sentences import outlook, with_title
from webapp.views.sheet_state import EMPTY, state_begun, text_in
from webapp.views.sliders import grouped, stops_of

blueprint = Blueprint("home", __name__)

AS_SENT = (
    "prompt",
    "parse_special",
    "model",
    "preset",
    "parent",
    "parent_sample",
)  # fields that come back as they were


@blueprint.get("/")
def home():
    """The form; with ?prompt= or any other field it is filled in, with ?parent= it holds a run's text to be changed."""
    parent_id = request.args.get("parent")
    if parent_id is None:
        return filled_in(request.args.to_dict())
    parent = find_run(parent_id)
    view, models = state().look(parent), state().models
    offered = parent.model if models.is_served(parent.model) else models.preferred(settings()["RUBRIC_MODEL"])
    sent = request.args.to_dict()
    number = sample_in(sent.get("sample", sent.get("parent_sample")), view)
    values = text_to_change(view, parent, number)
    if "model" in sent:  # the form was filled in with it before, and all its fields are in the address
        values.pop("parse_special", None)
    else:
        values |= to_write_on(parent.options, models.defaults_of(offered) or {}) | {"model": parent.model}
    values |= {} if number is None else {"samples": 1}
    values |= sent | {"parent": parent.id, "parent_sample": number}
    return filled_in(values, parent=parent, typed=sent.get("prompt"))


def sample_in(text: str | int | None, view: RunView) -> int | None:
    """The number of a run's sample; None where it names none of them."""
    number = whole_in(str(text))
    return number if number is not None and number < len(view.log.samples) else None


@blueprint.get("/s/<sheet_id>")
def sheet(sheet_id: str):
    """A sheet: what its owner may go on with, and what others see of it."""
    found, here = find_sheet(sheet_id), state()
    told = here.sheet_state(found, visitor())
    text = text_in(told["spans"])
    opening = " ".join(text.split())[:60]
    return filled_in(told["options"] | {"prompt": text}, sheet=told, opening=opening, link_of_run=link_to)


def filled_in(values: dict, **more):
    """The form filled in by an address, with a complaint where that names no preset."""
    try:
        find_preset(values.get("preset") or OWN.name)
    except Refusal as refusal:
        return refused(refusal, form(values, problem=str(refusal), field=refusal.field, **more))
    return form(values, **more)


def text_to_change(view: RunView, parent: Run, number: int | None) -> dict[str, str]:
    """The fields of a run's text, that of sample `number` after it if one is named; special tokens by their names."""
    ids = view.prompt_ids[view.text_from :].tolist()
    fields = {"prompt": view.asked}
    if not view.vocabulary.special.isdisjoint(ids):
        with suppress(Refusal):  # the model is gone, and with it what its special tokens are called
            folder = state().models.find_for(parent)
            fields["parse_special"] = "on"
            if view.typed is None:
                fields["prompt"] = split_half_character(folder.tokenizer.spell(ids))[0].decode("utf-8", "replace")
    if number is not None:
        fields["prompt"] += view.text(number).removesuffix("\ufffd")
    return fields


def home_again(sentence: str, field: str | None) -> str:
    """The form as it was sent, with the one complaint there is about it."""
    values = {name: request.form.get(name, "") for name in AS_SENT}
    values |= {option.name: request.form.get(option.name, "") for option in OPTIONS + LISTS}
    return form(values, problem=with_title(sentence, field), field=field)


def form(values: dict, **more) -> str:
    """The page with the form, filled in with `values`; `more` is what else the template asks for."""
    here = state()
    listed, usual = here.models.all(), here.models.preferred(settings()["RUBRIC_MODEL"])
    served = {m.name: m.folder for m in listed if here.models.is_served(m.name)}
    asked = values.get("model") if here.models.is_served(values.get("model")) else None
    chosen = served.get(asked) or served.get(usual)
    preset, shown_sheet = preset_of(values) or OWN, more.pop("sheet", None)
    typed = more.pop("typed", values.get("prompt"))
    return render_template(
        "pages/home.html",
        sheet=shown_sheet or beginning_sheet(values, typed, chosen),
        values=values,
        defaults=when_empty(preset, here.models.defaults_for(chosen) if chosen else {}),
        presets=PRESETS,
        preset=preset,
        link=home_link(),
        settings=grouped(),
        stops_of=stops_of,
        asks_more=bool(values.get("parse_special"))
        or any(option.more and values.get(option.name) for option in OPTIONS + LISTS),
        models=listed,
        served=served,
        chosen=asked or usual,
        loaded=here.engine.loaded if here.engine else None,
        unserved={m.name: why for m in listed if m.folder and (why := here.models.why_not_served(m.name))},
        defaults_for=here.models.defaults_for,
        lacking=here.models.lacking,
        beyond=here.models.presets_beyond,
        demo=None if values.get("prompt") or more.get("parent") or shown_sheet else demo_of(chosen),
        ideas=examples_of(chosen),
        brings_spaces=brings_spaces,
        busy=how_busy(),
        legends=LEGENDS,
        untold=untold(here.models.capabilities),
        **more,
    )


def demo_of(folder: ModelFolder | None) -> dict | None:
    """What a model wrote of its first example: the run, its view and its text as HTML; None where there is nothing yet."""
    run = state().examples.find(folder, folder.examples[0]) if folder and folder.examples else None
    if run is None:
        return None
    view = state().look(run)
    return {"run": run, "view": view, "html": SampleView(view, 0).news() or ""}


def beginning_sheet(values: dict, typed: str | None, folder: ModelFolder | None) -> dict:
    """The state of a sheet that is not stored yet: the run's text that it goes on from, if it does, and what was `typed`
    in its place (None: nothing was).

    `folder` is the model that would go on.
    """
    run = get_run(values.get("parent") or "")
    begun = EMPTY if run is None else begun_from(run, values.get("parent_sample"), folder)
    if values.get("lens") in LEGENDS:
        begun = begun | {"lens": values["lens"]}
    if typed is None or (not typed and run is None):
        return begun
    text = plain_text(typed)
    return begun | {"typed": text, "caret": len(text), "hint": script_hint(text, folder) if folder else ""}


def begun_from(run: Run, sample: str | int | None, folder: ModelFolder | None) -> dict:
    """The state of a sheet that goes on from a run's sample, or from its prompt alone."""
    number = sample_in(sample, state().look(run))
    begun = state().begun_with(run, number)
    about = {"run": run.id, "sample": number, "seen": begun.seen}
    return state_begun(begun, state().sources, folder) | {"from": about}


@blueprint.post("/runs")
@limited
def create():
    """Start a run from the form; as an edit when it names a parent."""
    text, parse_special = prompt_text(), "parse_special" in request.form
    models = state().models
    folder = models.find(request.form.get("model") or models.preferred(settings()["RUBRIC_MODEL"]))
    given = {name: request.form.get(name) for name in ("preset", *(option.name for option in OPTIONS + LISTS))}
    if "read" in request.form:  # the button "How surprising is my text?"
        if not text.strip():
            raise Refusal("Write something first: then it can tell how surprising it is.", "prompt")
        given |= {"max_new_tokens": 0, "samples": 1}
    sampling = parse_with_preset(as_meant(given), models.defaults_for(folder))
    parent_id = request.form.get("parent")
    if not parent_id:
        beginning = derivation.fresh(folder, text, parse_special)
        return to_run(state().service.start(folder, beginning, sampling, make_visitor()))
    parent = find_run(parent_id)
    log = state().look(parent).log
    number = whole_number("parent_sample", len(log.samples) - 1) if request.form.get("parent_sample") else None
    if state().vocabularies.same(parent, folder):
        beginning = derivation.edit(parent, log, number, text, folder, parse_special)
    else:  # another model with other tokens: only the text can be carried over
        beginning = derivation.fresh(folder, text, parse_special)
        beginning = replace(beginning, relation=Relation.EDIT, parent=parent, parent_sample=number)
    return to_run(state().service.start(folder, beginning, sampling, make_visitor()))


def prompt_text() -> str:
    """The prompt as the person typed it; browsers send CRLF for every line break."""
    text = request.form.get("prompt")
    if text is None:
        raise Refusal("prompt is missing from the form; it may be empty, but it must be there.", "prompt")
    text = plain_text(text)
    size, limit = len(text.encode("utf-8", "replace")), state().service.max_prompt
    if size > limit:
        raise Refusal("prompt may have at most {limit:,} bytes, not {size:,}.", "prompt", limit=limit, size=size)
    return text


@blueprint.errorhandler(Refusal)
def again(refusal: Refusal):
    """A person asked for what cannot be done: their form again, with the sentence; but not of a run that is not there."""
    missing = isinstance(refusal, UnknownRun | RemovedRun)
    asked = request.endpoint == "home.create" and not is_fragment() and not missing
    return refused(refusal, home_again(str(refusal), refusal.field) if asked else None)


def how_busy() -> dict:
    """One sentence (`words`): why nothing can be written, or how long a run would wait that was sent now; and whether
    there is room for one (`takes`)."""
    here = state()
    if (problem := here.models.problem()) is not None:
        return {"words": problem, "takes": False}
    now = here.engine.outlook
    return {"words": outlook(now), "takes": not now.full}


@blueprint.get("/busy")
def busy():
    """How busy the model is, and whether there is room, for a page that waits to be filled in."""
    return render_template("partials/busy_now.html", busy=how_busy())
