"""What a sheet begins with that goes on from something: a run of before, or another visitor's sheet."""

from generate import ModelFolder, RunLog
from webapp.runs.tables import Run
from webapp.runs.typed import parts_of
from webapp.sheets.spans import PROMPT, Spans, Typed, Written, normal


def spans_of_run(
    run: Run, log: RunLog, number: int | None, text_from: int, tokens: list[bytes], folder: ModelFolder | None
) -> Spans:
    """A run's prompt, and sample `number` if one is named: black what a person typed, red what models wrote.

    `text_from` is the place of the prompt's first token that somebody wrote, `tokens` are the bytes of all of them. `folder`
    is the run's model, if it is here: it tells which part of a prompt that is stored as it was typed is whose.
    """
    found, place = [], 0
    parts = typed_parts(run, log, folder)
    for turn, count in enumerate(run.authors):
        start, end = max(place, text_from), place + count
        if turn % 2:
            found.append(Written(run.id, PROMPT, start, end))
        elif parts is None:
            found.append(Typed(b"".join(tokens[start:end]).decode("utf-8", "replace")))
        else:
            found.append(Typed(parts[turn]))
        place = end
    if number is not None:
        found.append(
            Written(run.id, number, 0, None if log.samples[number].finish_reason else len(log.samples[number]))
        )
    return normal(found)


def typed_parts(run: Run, log: RunLog, folder: ModelFolder | None) -> list[str] | None:
    """A run's prompt as it was typed, by its turns; None where it is not stored so, or nobody can tell whose what is."""
    if run.typed is None or (folder is None and len(run.authors) > 1):
        return None
    return parts_of(run.typed, log.prompt_ids, run.authors, folder)
