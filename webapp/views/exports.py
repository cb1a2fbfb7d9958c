"""All that is known of a run, as JSON."""

import json
from collections.abc import Iterator, Mapping

import numpy as np

from generate import record_as_dict
from webapp.runs.tables import Run
from webapp.views.run_view import RunView

BATCH = 64  # tokens written at once, so that a large run neither fills the memory nor holds up the others


def facts_of(run: Run, view: RunView, url: str) -> dict:
    """What is known of the run as a whole; `url` is the address of its page."""
    return {
        "id": run.id,
        "url": url,
        "created": run.created.isoformat() + "Z",
        "state": view.log.state,
        "model": run.model,
        "fingerprint": view.log.fingerprint or run.fingerprint,
        "precision": view.log.precision,
        "device": view.log.device,
        "seed": run.options["seed"],
        "options": run.options,
        "first_sample": run.first_sample,
        "parent": {"id": run.parent_id, "sample": run.parent_sample, "relation": run.relation}
        if run.parent_id
        else None,
    }


def written(facts: dict, view: RunView) -> Iterator[str]:
    """The JSON text piece by piece: the facts, the prompt, the samples."""
    prompt = {"text": view.prompt_text, "unread_tokens": view.unread}
    yield f'{dumps(facts)[:-1]}, "prompt": {dumps(prompt)[:-1]}, "tokens": '
    yield from tokens(view, view.log.prompt, view.log.blocked)
    yield '}, "samples": ['
    for number, log in enumerate(view.log.samples):
        said = {"text": view.text(number), "finish_reason": log.finish_reason, "error": log.error and str(log.error)}
        yield f'{", " if number else ""}{dumps(said)[:-1]}, "tokens": '
        yield from tokens(view, log.read(0, log.released), log.blocked)
        yield "}"
    yield "]}\n"


def tokens(view: RunView, records: np.ndarray, blocked: Mapping[int, tuple[int, ...]]) -> Iterator[str]:
    """A JSON list of records, some at a time; `blocked` by their places."""
    yield "["
    for start in range(0, len(records), BATCH):
        batch = [
            dumps(record_as_dict(record, view.vocabulary, blocked.get(place, ())))
            for place, record in enumerate(records[start : start + BATCH], start)
        ]
        yield (", " if start else "") + ", ".join(batch)
    yield "]"


def dumps(value: dict) -> str:
    """A value as JSON, whose text stays readable."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
