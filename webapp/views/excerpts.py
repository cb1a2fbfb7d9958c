"""What the list of sheets and runs shows of each: of a sheet its end, of a run where the model took over."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import func, select

from generate import RunState, Vocabulary, split_half_character
from webapp.runs.repository import Vocabularies, unpack
from webapp.runs.tables import Block, Run, db
from webapp.sheets.sources import Found, Sources
from webapp.sheets.spans import Spans, Written, spans_from_json
from webapp.sheets.tables import Sheet
from webapp.views.sheet_state import inks_of

EXCERPT = 60  # tokens of a run's continuation, and of its prompt's end
END = 200  # characters of a sheet
WORD = 24  # characters within which an excerpt begins at a word, if one begins there


def entries(wanted: Sequence[tuple[str, str]], sources: Sources, vocabularies: Vocabularies) -> list[dict]:
    """What the list shows of some sheets and runs, given as (kind, id), in their order; without those that are gone."""
    ids = {kind: [name for found, name in wanted if found == kind] for kind in ("sheet", "run")}
    runs = db.session.scalars(select(Run).where(Run.id.in_(ids["run"]))).all()
    shown = {("run", one["run"].id): one for one in excerpts(runs, vocabularies)}
    shown |= {("sheet", one["id"]): one for one in sheet_excerpts(ids["sheet"], sources)}
    return [shown[name] for name in wanted if name in shown]


def sheet_excerpts(ids: Sequence[str], sources: Sources) -> list[dict]:
    """What the list shows of each sheet: its end in both inks, when it was changed, its versions, whether it is written."""
    columns = select(Sheet.id, Sheet.changed, Sheet.spans).where(Sheet.id.in_(ids))
    sheets = [(row.id, row.changed, spans_from_json(row.spans)) for row in db.session.execute(columns)]
    found = sources.read(*(last_of(spans, surely_in) for _, _, spans in sheets))
    runs = select(Run.sheet_id, Run.state, func.count()).where(Run.sheet_id.in_(ids)).group_by(Run.sheet_id, Run.state)
    versions, written = Counter(), set()
    for name, state, count in db.session.execute(runs):
        versions[name] += count
        if state != RunState.DONE:
            written.add(name)
    return [
        {"id": name, "changed": changed, "versions": versions[name], "writing": name in written} | end_of(spans, found)
        for name, changed, spans in sheets
    ]


def last_of(spans: Spans, tokens_in: Callable[[Written], int]) -> Spans:
    """The end of a text: together END characters that were typed and tokens that were written, or all."""
    room, last = END, []
    for span in reversed(spans):
        if room <= 0:
            break
        size = tokens_in(span) if isinstance(span, Written) else len(span.text)
        if isinstance(span, Written) and size > room:
            span = replace(span, start=span.start + size - room)  # a character that is cut so is left out below
        last.append(span)
        room -= size
    return tuple(reversed(last))


def surely_in(span: Written) -> int:
    """How many tokens a span has at the least, as long as its run was not read."""
    return 0 if span.end is None else span.end - span.start


def end_of(spans: Spans, found: Found) -> dict:
    """The last END characters of a text in their two inks, and whether they are not all; `found` has its last spans."""
    near = last_of(spans, lambda span: (span.end or len(found(span.run, span.sample).tokens)) - span.start)
    parts = [part | {"text": part["text"].replace("\ufffd", "")} for part in inks_of(near, found)]
    text = "".join(part["text"] for part in parts)
    if (spare := len(text) - END) > 0:
        parts = without_first(parts, next((n for n in range(spare, spare + WORD) if text[n - 1].isspace()), spare))
    return {"cut": near != spans or spare > 0, "parts": [part for part in parts if part["text"]]}


def without_first(parts: Iterable[dict], count: int) -> list[dict]:
    """Texts in their inks without the first `count` characters."""
    left = []
    for part in parts:
        if rest := part["text"][count:]:
            left.append(part | {"text": rest})
        count = max(0, count - len(part["text"]))
    return left


def excerpts(found: Sequence[Run], vocabularies: Vocabularies) -> list[dict]:
    """What the list shows of each run: the end of its prompt and the beginning of its first sample."""
    blocks = select(Block).where(Block.run_id.in_([run.id for run in found]), Block.number == 0, Block.start < EXCERPT)
    begun: dict[str, bytes] = {}
    for block in db.session.scalars(blocks.order_by(Block.run_id, Block.start)):
        begun[block.run_id] = begun.get(block.run_id, b"") + block.tokens
    return [excerpt(run, begun.get(run.id, b""), vocabularies.find(run.vocabulary_id)) for run in found]


def excerpt(run: Run, tokens: bytes, vocabulary: Vocabulary) -> dict:
    """What the list shows of one run; `tokens` are the packed first tokens of its first sample."""
    prompt, written_ids = (unpack(packed, run.vocab_size)["id"] for packed in (run.prompt, tokens))
    head, half = split_half_character(vocabulary.bytes_of(prompt[-EXCERPT:].tolist()))
    data = half + vocabulary.bytes_of(written_ids[:EXCERPT].tolist())[: run.samples[0].text_end]
    return {
        "run": run,
        "cut": len(prompt) > EXCERPT,
        "prompt": head.decode("utf-8", "ignore"),
        "text": data.decode("utf-8", "ignore"),
        "samples": run.options["samples"],
    }
