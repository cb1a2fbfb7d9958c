"""What a sheet begins with that goes on from something: a run of before, or another visitor's sheet."""

from generate import RunLog
from webapp.runs.tables import Run
from webapp.sheets.spans import PROMPT, Spans, Typed, Written, normal


def spans_of_run(run: Run, log: RunLog, number: int | None, text_from: int, tokens: list[bytes]) -> Spans:
    """A run's prompt, and sample `number` if one is named: black what a person typed, red what models wrote.

    `text_from` is the place of the prompt's first token that somebody wrote, `tokens` are the bytes of all of them.
    """
    found, place = [], 0
    for turn, count in enumerate(run.authors):
        start, end = max(place, text_from), place + count
        if turn % 2:
            found.append(Written(run.id, PROMPT, start, end))
        else:
            found.append(Typed(b"".join(tokens[start:end]).decode("utf-8", "replace")))
        place = end
    if number is not None:
        found.append(
            Written(run.id, number, 0, None if log.samples[number].finish_reason else len(log.samples[number]))
        )
    return normal(found)
