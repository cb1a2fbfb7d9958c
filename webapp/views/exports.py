"""What is taken away of a run, or of a sheet: its text, and all that is known of it as JSON."""

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from generate import record_as_dict
from webapp.runs.tables import Run
from webapp.sheets.pieces import text_of
from webapp.sheets.sources import Sources
from webapp.sheets.spans import PROMPT
from webapp.sheets.tables import Sheet
from webapp.views.run_view import RunView
from webapp.views.sheet_state import inks_of, spans_with_cells, visible
from webapp.views.versions import versions

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


def text_of_run(view: RunView) -> str:
    """Prompt and continuation; of several samples each stands under a line with its number."""
    texts = [view.asked + view.text(number) for number in range(len(view.log.samples))]
    if len(texts) > 1:
        texts = [f"======== sample {number} ========\n{body}\n" for number, body in enumerate(texts, 1)]
    return "\n".join(texts)


def written(facts: dict, view: RunView) -> Iterator[str]:
    """The JSON text piece by piece: the facts, the prompt, the samples."""
    prompt = {"text": view.prompt_text, "unread_tokens": len(view.unread)}
    prompt |= {} if view.typed is None else {"typed": view.typed}
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


def facts_of_sheet(sheet: Sheet, mine: bool, sources: Sources, url: str, link: Callable[[str], str]) -> dict:
    """A sheet as somebody sees it; `url` is its page's address, `link` gives that of a run's.

    A span that a model wrote names the place of its first token in a run's sample (null: in the run's prompt).
    """
    content, found, _, pieces = visible(sheet, mine, sources)
    private = {"memory": sheet.memory, "set_aside": [inks_of(piece, found) for piece in content.aside]}
    return {
        "id": sheet.id,
        "url": url,
        "created": sheet.created.isoformat() + "Z",
        "changed": sheet.changed.isoformat() + "Z",
        "text": text_of(pieces),
        "spans": [as_told(span) for span in spans_with_cells(pieces, found)],
        **(private if mine else {}),
        "versions": [
            {"run": run, "url": link(run), "created": f"{when.isoformat()}Z"} for run, when in versions(sheet)
        ],
    }


def as_told(span: dict) -> dict:
    """A span of `spans_with_cells` with its text and the count of its tokens in the place of cells."""
    if "text" in span:
        return span
    text, tokens = "".join(cell[0] for cell in span["cells"]), sum(cell[1] for cell in span["cells"])
    sample = None if span["sample"] == PROMPT else span["sample"]
    return {"text": text, "run": span["run"], "sample": sample, "from": span["from"], "tokens": tokens}


def dumps(value: dict) -> str:
    """A value as JSON, whose text stays readable."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
