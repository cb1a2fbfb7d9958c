"""Short ways on that a person may take: asked for, and told as they are written.

They are told in the answer to the request that asks for them, a line of JSON each time something is new, so that a page
needs no second stream for them; a page that goes away lets them end.
"""

import json
import time
from collections.abc import Iterator

from flask import Blueprint, Response

from generate import N_, FinishReason, gettext
from webapp.http.json_body import Body
from webapp.http.security import limited
from webapp.http.visitors import make_visitor
from webapp.runs.registry import hold
from webapp.sheets.pieces import unfinished
from webapp.sheets.store import find_sheet
from webapp.sheets.suggestions import COUNT, Suggestion
from webapp.state import State, state
from webapp.views.sentences import status
from webapp.views.tokens import whole_cells

blueprint = Blueprint("suggestions", __name__)

FLUSH = 0.05  # seconds between two lines at the least
BEAT = 1.0  # at the most: a page's leaving is only noticed at a write
MOST_TURNS = 10_000  # that the noise is asked to number
YIELDED = N_("The model is needed for a text that somebody waits for. Ask again in a moment.")


@blueprint.post("/s/<sheet_id>/suggest")
@limited
def suggest(sheet_id: str):
    """Ways on from a place in a sheet, also in somebody else's; nothing is stored."""
    body, here = Body.read(), state()
    turn = min(body.whole("turn", default=0), MOST_TURNS)
    sheet, wish = find_sheet(sheet_id), here.wish(body.options())
    made = here.suggestions.ask(sheet, make_visitor(), body.whole("rev"), body.whole("at"), wish, turn)
    try:
        parts = hold(here.streams, here.registry, follow(here, made))
    except Exception:
        here.suggestions.stop(made)
        raise
    return Response(parts, mimetype="application/x-ndjson", headers={"Cache-Control": "no-store, no-transform"})


def line(**said: object) -> str:
    """A line of JSON."""
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False) + "\n"


def follow(here: State, made: Suggestion) -> Iterator[str]:
    """Yield lines until all samples have ended or the server closes; what nobody listens to any more is stopped."""
    log, vocabulary = made.log, made.request.folder.tokenizer.vocabulary
    half = unfinished(vocabulary.tokens[index] for index in log.prompt_ids)
    sent, begun, waits = [0] * COUNT, time.monotonic(), ""
    beat = begun
    try:
        yield line(id=made.id)
        while here.scheduler.alive():
            with log.changed:
                version, done = log.version, log.done
            is_slow = time.monotonic() - begun >= BEAT and not any(map(len, log.samples))
            now = status(log, made.request.folder.name, here.models.problem()) if is_slow else ""
            if now != waits:
                waits = now
                yield line(status=now)
            for number in range(COUNT):
                yield from news(made, number, sent, b"" if sent[number] else half)
            if done:
                yield line(over=ending(made))
                return
            if time.monotonic() - beat >= BEAT:
                beat = time.monotonic()
                yield line()
            time.sleep(FLUSH)
            log.wait(version, BEAT - FLUSH)
    finally:
        here.suggestions.stop(made)


def news(made: Suggestion, number: int, sent: list[int], before: bytes) -> Iterator[str]:
    """A line with the cells of a sample that are new since `sent`, which counts its tokens and goes on; none without."""
    sample, start = made.log.samples[number], sent[number]
    done, count = sample.finish_reason is not None, len(made.said(number).tokens)
    found = []
    ids = sample.read(start, max(start, count))["id"]
    for cell in whole_cells(ids, made.request.folder.tokenizer.vocabulary, start, before, done):
        found.append([cell.text, cell.end - sent[number]])  # with tokens before it that have no text
        sent[number] = cell.end
    if found:
        yield line(sample=number, cells=found)


def ending(made: Suggestion) -> str:
    """Why there are not as many as there might be; "" where nothing is wrong."""
    for sample in made.log.samples:
        if sample.error is not None:
            return str(sample.error)
        if sample.finish_reason == FinishReason.YIELDED:
            return gettext(YIELDED)
    return ""
