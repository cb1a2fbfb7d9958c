"""A prompt made from a sheet: for any walk of typing and writing, in both kinds of database, it keeps each written token."""

import secrets
from itertools import groupby

import pytest
from conftest import Visitor
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sheets import Page

from webapp.runs.repository import stored_log
from webapp.runs.tables import Run, db
from webapp.sheets.spans import PROMPT, Typed, spans_from_json
from webapp.sheets.store import find_sheet
from webapp.state import state

texts = st.text(alphabet="ab \n界🦊é", max_size=6)
FEW = {"max_new_tokens": "4", "min_new_tokens": "4", "top_k": "0", "temperature": "2"}  # hot: halves of characters too


def one_thing(data, page) -> None:
    """Something that a person does to a sheet."""
    length = len(page.text)
    can = ["type", "type", "write", "mind", *(["retry"] if page.state["tries"]["count"] else [])]
    match data.draw(st.sampled_from(can + (["back"] if page.state["aside"] else []))):
        case "type":
            at = data.draw(st.integers(0, length))
            page.type(at, data.draw(st.integers(0, min(3, length - at))), data.draw(texts))
        case "write":
            page.write(at=data.draw(st.integers(0, length)), seed=str(data.draw(st.integers(0, 99))), **FEW)
        case "retry":
            page.do("retry", options=FEW | {"model": "tiny", "seed": str(data.draw(st.integers(0, 99)))})
            page.rest()
        case "mind":
            page.do("settings", memory=data.draw(st.sampled_from(["", "a fox", "one\n"])))
        case "back":
            page.do("back", piece=0)


def expected(page, tiny) -> tuple[list, list, list]:
    """Ids, where each comes from, and whether the model wrote it: from the sheet's spans, one after the other."""
    sheet = find_sheet(page.state["id"])
    spans = spans_from_json(sheet.spans)
    memory = sheet.memory and sheet.memory.removesuffix("\n") + "\n"
    ids = tiny.encode_prompt(memory) if memory or not spans or not isinstance(spans[0], Typed) else []
    origins, red = [None] * len(ids), [False] * len(ids)
    for span in spans:
        if isinstance(span, Typed):
            new = tiny.tokenizer.encode(span.text, True) if ids else tiny.encode_prompt(span.text)
            origins += [None] * len(new)
        else:
            log = state().service.log_of(db.session.get(Run, span.run))
            records = log.prompt if span.sample == PROMPT else log.samples[span.sample].read()
            new = records["id"].tolist()[span.start : span.end]
            origins += [(span.run, span.sample, span.start + n) for n in range(len(new))]
        red += [not isinstance(span, Typed)] * len(new)
        ids += new
    return ids, origins, red


def unpacked(packed) -> list:
    """A run's origins, one for each token."""
    found = []
    for count, *where in packed:
        found += [(where[0], where[1], where[2] + n) for n in range(count)] if where else [None] * count
    return found


def walked(app, tiny, data) -> None:
    """Some random things, and a writing at the end: what its run says of its prompt is what the sheet said."""
    page = Page(Visitor(app)).open(data.draw(texts), key=secrets.token_urlsafe(16))
    for _ in range(data.draw(st.integers(1, 5))):
        one_thing(data, page)
    with app.app_context():
        ids, origins, red = expected(page, tiny)
    page.write(max_new_tokens="1", min_new_tokens="1")
    with app.app_context():
        run = db.session.get(Run, page.state["versions"][0]["run"])
        assert stored_log(run).prompt["id"].tolist() == ids
        assert unpacked(run.origins) == origins
        turns = [(by_model, len(list(some))) for by_model, some in groupby(red)]
        authors = [count for _, count in turns]
        assert list(run.authors) == ([0, *authors] if turns[0][0] else authors)
        assert run.options["n_keep"] == (
            len(tiny.encode_prompt(page.state["memory"].removesuffix("\n") + "\n")) if page.state["memory"] else 0
        )


@given(st.data())
@settings(max_examples=4)
def test_a_prompt_keeps_each_written_token_and_cuts_what_was_typed_between_by_itself(app, tiny, data):
    walked(app, tiny, data)


@pytest.mark.long
@given(st.data())
@settings(max_examples=60)
def test_prompts_of_many_walks_keep_each_written_token(app, tiny, data):
    walked(app, tiny, data)
