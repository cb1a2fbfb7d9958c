"""The text as it is written: server-sent events for the page, and a plain page that grows for browsers without scripts.

A stream only reads the run's log from an index. An event's id counts the tokens sent of each sample (`14.14.13`), so a
reader who comes back with Last-Event-ID gets exactly what is missing; or all anew, when another server or a restarted
model has taken the run up since.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from flask import Blueprint, Response, render_template, request

from generate import Busy, Withdrawal, gettext
from webapp.http.event_stream import EventName, event, event_stream, one_line, partial
from webapp.http.request import BadRequest
from webapp.http.visitors import visitor
from webapp.runs.kinds import GoneReason
from webapp.runs.registry import hold
from webapp.runs.repository import find_run, get_run, why_gone
from webapp.state import State, state
from webapp.views.run_view import RunView, SampleView, tool_facts
from webapp.views.sentences import GONE, watched_by
from webapp.views.tokens import escape

blueprint = Blueprint("events", __name__)

FLUSH = 0.04  # seconds between two events at the least: many tokens share one when the model is fast
EVENTS = 500  # a second, of all streams together: with more of them each one's come in larger pieces
BEAT = 1.0  # seconds between two beats at the most: a reader's leaving is only noticed at a write
COME_BACK = 5000  # milliseconds after which a reader who found no room tries again
CURSOR = re.compile(r"(\d{1,5}-)?\d{1,7}(\.\d{1,7})*", re.ASCII)
AT = re.compile(r"([a-z]-)?", re.ASCII)
STORY = "<!-- story -->"
REASONS = {Withdrawal.DELETED: GoneReason.DELETED, Withdrawal.TAKEN_DOWN: GoneReason.TAKEN_DOWN}


class Over(StrEnum):
    """Why a stream is done: what its last event says."""

    ENDED = "over"
    DELETED = "deleted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Closing:
    """What the page shows once a run is over, rendered before the stream begins (a stream has no app context)."""

    tools: str
    sample_tools: list[str]
    gone: dict[Withdrawal, str]


@blueprint.get("/r/<run_id>/events")
def events(run_id: str):
    """The run as server-sent events, from Last-Event-ID or `?after=` on.

    A run that is over or unknown answers 200 with `done`; htmx would ask for ever after anything else.
    """
    run = get_run(run_id)
    if run is None:
        return event_stream(iter([*telling_gone(run_id), event(EventName.DONE, Over.UNKNOWN)]))
    at = request.args.get("at", "")
    if not AT.fullmatch(at):
        raise BadRequest("at must be a letter and a hyphen, not {given!r}.", given=at[:40])
    here = state()
    view = here.look(run)
    restarts, sent = read_cursor(len(view.log.samples))
    closing = (
        None
        if "bare" in request.args
        else Closing(
            tools=one_line(
                render_template("partials/tools.html", run=run, **tool_facts(view, run.owner == visitor(), done=True))
            ),
            sample_tools=[
                one_line(render_template("partials/sample_tools.html", run=run, number=n)) for n in range(len(sent))
            ],
            gone={why: one_line(render_template("partials/gone.html", reason=REASONS[why])) for why in REASONS},
        )
    )
    parts = follow(here, view, restarts, sent, "prompt" in request.args, closing, at)
    try:
        return event_stream(hold(here.streams, here.registry, parts, view.id, view.log))
    except Busy:
        return event_stream(iter([event(EventName.BUSY, "come back", retry=COME_BACK)]))


def telling_gone(run_id: str) -> list[str]:
    """The event that says that a run was here once, and why it is gone; [] where none was."""
    reason = why_gone(run_id)
    if reason is None:
        return []
    page = render_template("partials/gone.html", reason=reason)
    return [event(None, partial("#main", "innerHTML", one_line(page)))]


@blueprint.get("/r/<run_id>/plain")
def plain(run_id: str):
    """The run as one plain page that grows while the text is written."""
    run = find_run(run_id)
    here = state()
    view = here.look(run)
    head, tail = render_template("pages/plain.html", run=run, view=view, story=STORY).split(STORY)
    parts = grow(here, view, head, tail)
    return Response(hold(here.streams, here.registry, parts, view.id, view.log), mimetype="text/html")


def read_cursor(samples: int) -> tuple[int, list[int]]:
    """How often the run had been taken up anew, and how many tokens of each sample the reader has; none at first."""
    text = request.headers.get("Last-Event-ID") or request.args.get("after") or ".".join("0" * samples)
    if not CURSOR.fullmatch(text) or text.count(".") + 1 != samples:
        raise BadRequest(
            "Last-Event-ID must be {samples} whole numbers joined by dots, not {given!r}.",
            samples=samples,
            given=text[:40],
        )
    restarts, _, counts = text.rpartition("-")
    return int(restarts or 0), [int(part) for part in counts.split(".")]


def follow(
    state: State,
    view: RunView,
    restarts: int,
    sent: list[int],
    tell_prompt: bool,
    closing: Closing | None,
    at: str = "",
) -> Iterator[str]:
    """Yield events until the run is over (`done` says so) or must be read anew (`pause`; the reader will come back).

    With `tell_prompt` the prompt is sent again once it is known what the model thought of it. Without `closing` only the
    text and its status are sent.
    """
    anew = restarts != view.log.restarts
    readers = [SampleView(view, number, count, anew) for number, count in enumerate(sent)]
    ended: set[int] = set()
    told, status, watching, beat = not tell_prompt, "", 0, time.monotonic()
    yield event(EventName.BEAT, "hello")
    while state.scheduler.alive():
        version, done, why = view.log.version, view.log.done, view.log.withdrawn
        if why is Withdrawal.MOVED:
            break
        if why is not None:
            yield event(None, partial("#main", "innerHTML", closing.gone[why] if closing else gettext(GONE[why])))
            yield event(EventName.DONE, Over.DELETED)
            return
        parts = [partial(f"#{at}sample-{r.number}", r.swap, text) for r in readers if (text := r.news()) is not None]
        if (now := view.status(state.models.problem() if state.registry.writes(view.id) else None)) != status:
            status = now
            parts.append(partial(f"#{at}status", "innerHTML", escape(status)))
        if closing and (now := 0 if done else state.registry.watching(view.id)) != watching:
            watching = now
            parts.append(partial("#watching", "innerHTML", watched_by(watching)))
        for number in newly_ended(view, ended) if closing else ():
            html = f"<span>{escape(view.ending(number))}</span>{closing.sample_tools[number]}"
            parts.append(partial(f"#ending-{number}", "innerHTML", html))
        if not told and view.log.prompt_known:
            told = True
            parts.append(partial(f"#{at}prompt", "innerHTML", str(view.prompt_html())))
        if done and closing:
            parts.append(partial("#tools", "innerHTML", closing.tools))
        if parts:
            yield event(None, "".join(parts), cursor_of(view, readers))
        if done:
            yield event(EventName.DONE, Over.ENDED)
            return
        if time.monotonic() - beat >= BEAT:
            beat = time.monotonic()
            yield event(EventName.BEAT, "")
        breathe(state, view, version)
    yield event(EventName.PAUSE, "come back")


def cursor_of(view: RunView, readers: list[SampleView]) -> str:
    """An event's id: `14.14.13`, or `2-14.14.13` of a run that was taken up anew twice."""
    counts = ".".join(str(reader.cursor) for reader in readers)
    return f"{view.log.restarts}-{counts}" if view.log.restarts else counts


def newly_ended(view: RunView, ended: set[int]) -> list[int]:
    """Samples that ended since the last call, where there are several (a single one ends with its run)."""
    samples = view.log.samples
    new = [n for n, sample in enumerate(samples) if sample.finish_reason and n not in ended and len(samples) > 1]
    ended.update(new)
    return new


def grow(state: State, view: RunView, head: str, tail: str) -> Iterator[str]:
    """Yield the plain page piece by piece; several samples follow one another.

    It begins inside the paragraph of the prompt, which it ends, so that no line is broken before a single continuation.
    """
    yield head
    several = len(view.log.samples) > 1
    for number in range(len(view.log.samples)):
        if several:
            heading = escape(gettext("Sample {number}", number=number + 1))
            yield f'{"" if number else "</p>"}<h2>{heading}</h2><p dir="auto" class="story continuation">'
        else:
            yield '<span class="continuation">'
        yield from grow_sample(state, view, SampleView(view, number))
        yield f'{"" if several else "</span>"}</p><p class="quiet">{escape(gettext(GONE[view.log.withdrawn]) if view.log.withdrawn in GONE else view.ending(number))}</p>'
        if view.log.withdrawn in GONE:
            break
    yield tail


def grow_sample(state: State, view: RunView, reader: SampleView) -> Iterator[str]:
    """Yield one sample's HTML until it has ended, the server closes or the run goes elsewhere."""
    beat = time.monotonic()
    while True:
        version, over = view.log.version, view.log.samples[reader.number].finish_reason
        if text := reader.news():
            yield text
        elif time.monotonic() - beat >= BEAT:
            beat = time.monotonic()
            yield "<!-- -->"  # a sign of life; a reader's leaving is only noticed at a write
        if over or not state.scheduler.alive() or view.log.withdrawn:
            return
        breathe(state, view, version)


def breathe(state: State, view: RunView, version: int) -> None:
    """Wait for news in the log: at least FLUSH seconds (more with many streams), at most BEAT."""
    begun = time.monotonic()
    time.sleep(min(BEAT, max(FLUSH, state.streams.taken / EVENTS)))
    view.log.wait(version, max(0, begun + BEAT - time.monotonic()))
