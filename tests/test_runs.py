"""A run's life on the site: started, watched, stopped, continued, taken away."""

import html
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import TRICKY, Visitor, make_model, parse_events, pictured, text_of
from markupsafe import escape
from waiting import until

from generate import find_model
from webapp.runs import service
from webapp.runs.repository import new_run


def long_run(visitor, **fields):
    """A run of several seconds; whoever starts it must stop it."""
    return visitor.start(model="slow", max_new_tokens=4096, **fields)


def test_the_form_leads_to_a_run_whose_page_shows_prompt_and_continuation(visitor):
    run = visitor.start("The old king")
    made = visitor.finish(run)
    page = visitor.get(run).text
    assert "The old king" in page
    assert made["samples"][0]["finish_reason"] == "length"
    assert len(made["samples"][0]["tokens"]) == 20
    assert visitor.get(f"{run}.txt").text == "The old king" + made["samples"][0]["text"]


def test_the_link_lives_from_the_first_token_on(visitor, friend):
    run = long_run(visitor)
    assert friend.get(run).status_code == 200
    assert "hx-sse:connect" in friend.get(run).text
    visitor.post(f"{run}/stop")
    friend.events(run)
    assert "hx-sse:connect" not in friend.get(run).text


@pytest.mark.parametrize(
    "prompt", [TRICKY, "\n\n  two lines first", "\t\ttabs", "", "<b>&amp;</b>", "\x00\x1b[31m", "🦊从前"]
)
def test_streamed_text_equals_stored_text(visitor, prompt):
    run = visitor.start(prompt, max_new_tokens=60, temperature=2, top_k=0)
    streamed = "".join(text_of(e["data"]) for e in visitor.events(run))
    made = visitor.json(run)
    assert streamed == pictured(made["samples"][0]["text"])
    assert made["prompt"]["text"] == prompt.replace("\r\n", "\n")
    spoken = b"".join(bytes(token["bytes"]) for token in made["samples"][0]["tokens"])
    assert spoken.decode("utf-8", "replace") == made["samples"][0]["text"]


def test_a_stored_run_is_told_again_exactly_and_not_generated(app, visitor, writer):
    run = visitor.start(TRICKY, samples=3, max_new_tokens=40)
    live = visitor.events(run)
    before = visitor.json(run)
    wait_until_stored(app, run)
    again = visitor.events(run)
    for number in range(3):
        target = f"#sample-{number}"
        assert "".join(text_of(e["data"], target) for e in again) == "".join(text_of(e["data"], target) for e in live)
    assert visitor.json(run) == before
    assert before["precision"] == "float32"
    assert before["fingerprint"] == find_model(writer.engine.models, "tiny").fingerprint()


def wait_until_stored(app, run):
    until(lambda: run.rsplit("/", 1)[1] not in app.extensions["rubric"].registry.entries(), what="the last saving")


def test_a_reader_who_comes_back_gets_exactly_the_rest(visitor):
    run = visitor.start("从前 🦊", model="slow", samples=2, max_new_tokens=60, temperature=3, top_k=0)
    events = [e for e in visitor.events(run) if "id" in e]
    assert len(events) > 1, "60 tokens of this model should take several events"
    for cut in range(len(events)):
        rest = [e for e in visitor.events(run, **{"Last-Event-ID": events[cut]["id"]}) if "id" in e]
        for target in ("#sample-0", "#sample-1"):
            first = "".join(text_of(e["data"], target) for e in events[: cut + 1])
            after = "".join(text_of(e["data"], target) for e in rest)
            assert first + after == "".join(text_of(e["data"], target) for e in events)


def test_a_page_loaded_in_mid_stream_and_its_events_lose_and_repeat_nothing(visitor):
    run = long_run(visitor)
    until(lambda: visitor.json(run)["samples"][0]["tokens"], what="a token")
    page = visitor.get(run).text
    after = re.search(r"/events\?after=(\d+)", page)[1]
    visitor.post(f"{run}/stop")
    rest = "".join(text_of(e["data"]) for e in parse_events(visitor.get(f"{run}/events?after={after}").text))
    shown = page.split('id="sample-0">')[1].split("</p>")[0]
    everything = "".join(text_of(e["data"]) for e in visitor.events(run))
    assert int(after) > 0
    assert text_of(f'<hx-partial hx-target="#sample-0">{shown}') + rest == everything


def test_a_stream_begins_at_once_beats_and_ends_with_done(visitor):
    run = long_run(visitor)
    stream = visitor.client.get(f"{run}/events", buffered=False)
    first = next(stream.response)
    assert first.decode() == "event: beat\ndata: hello\n\n"
    visitor.post(f"{run}/stop")
    events = parse_events(b"".join(stream.response).decode())
    stream.close()
    assert events[-1] == {"event": "done", "data": "over"}
    assert stream.headers["X-Accel-Buffering"] == "no"
    assert "no-transform" in stream.headers["Cache-Control"]


def test_an_unknown_run_s_stream_says_done_and_never_404(visitor):
    answer = visitor.get("/r/nosuchrun/events")
    assert answer.status_code == 200
    assert parse_events(answer.text) == [{"event": "done", "data": "unknown"}]


def test_too_many_streams_are_told_to_come_back(app, visitor):
    run = long_run(visitor)
    streams = app.extensions["rubric"].streams
    taken = 0
    while streams.take():
        taken += 1
    try:
        answer = visitor.get(f"{run}/events")
        assert answer.text == "event: busy\nretry: 5000\ndata: come back\n\n"
        assert visitor.get(f"{run}/plain").status_code == 503
    finally:
        for _ in range(taken):
            streams.give_back()
        visitor.post(f"{run}/stop")
    visitor.events(run)
    assert taken == 20


def test_streams_give_their_place_back_also_when_the_reader_leaves(app, visitor):
    run = long_run(visitor)
    for _ in range(50):
        stream = visitor.client.get(f"{run}/events", buffered=False)
        next(stream.response)
        stream.close()
    visitor.post(f"{run}/stop")
    assert visitor.events(run)[-1]["data"] == "over"


def test_only_the_owner_stops_a_run(visitor, friend):
    run = long_run(visitor)
    assert 'id="stop"' in visitor.get(run).text
    assert 'id="stop"' not in friend.get(run).text
    refused = friend.post(f"{run}/stop")
    assert refused.status_code == 422
    assert "Only the visitor who started this run" in refused.text
    assert visitor.json(run)["state"] != "done"
    visitor.post(f"{run}/stop")
    assert visitor.finish(run)["samples"][0]["finish_reason"] == "cancelled"


def test_stop_ends_a_run_within_two_tokens(app, visitor, monkeypatch):
    engine, lengths = app.extensions["rubric"].engine, {}  # of all runs that are cancelled meanwhile, by their logs
    real = engine.cancel
    monkeypatch.setattr(
        engine, "cancel", lambda log, *why: (lengths.setdefault(log, len(log.samples[0])), real(log, *why))
    )
    run = long_run(visitor)
    until(lambda: visitor.json(run)["samples"][0]["tokens"], what="a token")
    visitor.post(f"{run}/stop", headers={"HX-Request": "true"})
    made = visitor.finish(run)
    assert made["samples"][0]["finish_reason"] == "cancelled"
    ids = [token["id"] for token in made["samples"][0]["tokens"]]
    before = next(length for log, length in lengths.items() if log.samples[0].read()["id"].tolist() == ids)
    assert before <= len(ids) <= before + 2


def test_continue_says_what_a_longer_run_would_have_said(visitor, friend):
    long = visitor.finish(visitor.start(TRICKY, samples=2, max_new_tokens=90))
    short = visitor.start(TRICKY, samples=2, max_new_tokens=30)
    visitor.finish(short)
    second = friend.post(f"{short}/continue", data={"sample": 1}).headers["Location"]
    friend.finish(second)
    last = friend.finish(friend.post(f"{second}/continue").headers["Location"])
    ids = [t["id"] for t in last["prompt"]["tokens"] + last["samples"][0]["tokens"]]
    assert ids == [t["id"] for t in long["prompt"]["tokens"] + long["samples"][1]["tokens"]]
    assert last["parent"] == {"id": second[3:], "sample": 0, "relation": "continue"}
    assert last["seed"] == long["seed"]


def test_a_continued_page_keeps_the_model_s_words_red(visitor):
    run = visitor.start("The old king", max_new_tokens=10)
    visitor.finish(run)
    page = visitor.get(visitor.post(f"{run}/continue").headers["Location"]).text
    inks = re.findall(r'<span class="(prompt|continuation)">|data-n="\d+"[^>]*>([^<]*)', page.split('id="prompt"')[1])
    told = "".join(f"[{ink}]" if ink else text for ink, text in inks)
    assert told.startswith("[prompt]The old king[continuation]")


def test_a_run_in_progress_cannot_be_continued(visitor):
    run = long_run(visitor)
    answer = visitor.post(f"{run}/continue")
    visitor.post(f"{run}/stop")
    assert answer.status_code == 422
    assert "still being written" in answer.text


def test_retry_keeps_the_prompt_s_ids_and_draws_a_new_seed(visitor):
    run = visitor.start(TRICKY, temperature=1.5, stop="xyzzy")
    first = visitor.finish(run)
    again = visitor.finish(visitor.post(f"{run}/retry").headers["Location"])
    assert [t["id"] for t in again["prompt"]["tokens"]] == [t["id"] for t in first["prompt"]["tokens"]]
    assert again["options"] == first["options"] | {"seed": again["seed"]}
    assert again["seed"] != first["seed"]
    assert again["parent"]["relation"] == "retry"


def test_an_edit_keeps_the_tokens_before_the_change(visitor):
    run = visitor.start("The old king said to the", model="storyteller", max_new_tokens=12)
    first = visitor.finish(run)
    ids = [t["id"] for t in first["prompt"]["tokens"] + first["samples"][0]["tokens"]]
    whole = first["prompt"]["text"] + first["samples"][0]["text"]
    form = visitor.get(f"/?parent={run[3:]}&sample=0").text
    assert f'name="parent" value="{run[3:]}"' in form
    assert f">\n{escape(whole)}</textarea>" in form
    edit = {"parent": run[3:], "parent_sample": 0, "model": "storyteller"}
    longer = visitor.finish(visitor.start(whole + " and then", **edit))
    assert [t["id"] for t in longer["prompt"]["tokens"]][: len(ids)] == ids
    same = visitor.finish(visitor.start(whole, **edit))
    assert [t["id"] for t in same["prompt"]["tokens"]] == ids
    changed = visitor.finish(visitor.start("The old king spoke", **edit))
    assert changed["prompt"]["text"] == "The old king spoke"
    assert [t["id"] for t in changed["prompt"]["tokens"]][:3] == ids[:3]
    assert changed["parent"] == {"id": run[3:], "sample": 0, "relation": "edit"}


def inks(page: str) -> list[tuple[bool, str]]:
    """The prompt on a run's page, cut where its ink changes: whether it is red, and the text."""
    parts = re.findall(r'<span class="(prompt|continuation)">((?:<span[^>]*>[^<]*</span>|[^<])*)</span>', page)
    return [(kind == "continuation", html.unescape(re.sub("<[^>]*>", "", text))) for kind, text in parts if text]


def test_an_edit_in_the_middle_keeps_what_follows_as_it_was_and_in_its_ink(visitor):
    run = visitor.start("The old king said to the", model="storyteller", max_new_tokens=30, seed=2)
    first = visitor.finish(run)
    prompt, written = ([t["id"] for t in part["tokens"]] for part in (first["prompt"], first["samples"][0]))
    text = first["samples"][0]["text"]
    edit = {"parent": run[3:], "parent_sample": 0, "model": "storyteller", "max_new_tokens": 1}
    child = visitor.start("The old queen said to the" + text, **edit)
    changed = visitor.finish(child)["prompt"]
    tail = prompt[3:] + written
    assert [t["id"] for t in changed["tokens"]][-len(tail) :] == tail
    assert all(t["logprob"] is not None for t in changed["tokens"][1:]), "the model has read it anew"
    assert inks(visitor.get(child).text) == [(False, "The old queen said to the"), (True, text)]
    words = text.split(" ")
    middle = " ".join([*words[:4], "unheard-of", *words[5:]])
    child = visitor.start("The old king said to the" + middle, **edit)
    changed = visitor.finish(child)["prompt"]
    assert changed["text"] == "The old king said to the" + middle
    black, red = "The old king said to the", " ".join(words[5:])
    assert inks(visitor.get(child).text) == [
        (False, black),
        (True, " ".join(words[:4])),
        (False, " unheard-of"),
        (True, " " + red),
    ]


def test_a_text_whose_beginning_was_cut_off_begins_as_any_that_is_typed(visitor):
    run = visitor.start("The old king said to the", model="storyteller", max_new_tokens=5)
    visitor.finish(run)
    edit = {"parent": run[3:], "model": "storyteller", "max_new_tokens": 1}
    short = visitor.finish(visitor.start("king said to the", **edit))
    typed = visitor.finish(visitor.start("king said to the", model="storyteller", max_new_tokens=1))
    assert [t["id"] for t in short["prompt"]["tokens"]] == [t["id"] for t in typed["prompt"]["tokens"]]


def test_text_added_after_an_ended_tale_drops_the_end_token(visitor):
    """Kept, it would make the model forget the tale in front of it."""
    plain = {"top_k": 40, "min_p": 0, "repetition_penalty": 1, "dry_multiplier": 0}
    run = visitor.start("", model="storyteller", max_new_tokens=60, seed=7, samples=9, **plain)  # two are short tales
    samples = visitor.finish(run)["samples"]
    number = next(n for n, sample in enumerate(samples) if sample["finish_reason"] == "stop")
    ids = [t["id"] for t in samples[number]["tokens"]]
    assert ids[-1] == 0
    edit = {"parent": run[3:], "parent_sample": number, "model": "storyteller"}
    child = visitor.finish(visitor.start(samples[number]["text"] + " And then", **edit))
    assert [t["id"] for t in child["prompt"]["tokens"]][: len(ids)] == [0, *ids[:-1]]
    assert child["prompt"]["text"].endswith(" And then")


def test_a_continued_run_may_end_when_the_longer_one_might(visitor):
    asked = {"model": "storyteller", "seed": 7, "min_new_tokens": 50}
    whole = visitor.finish(visitor.start("", max_new_tokens=80, **asked))["samples"][0]["tokens"]
    first = visitor.start("", max_new_tokens=30, **asked)
    visitor.finish(first)
    rest = visitor.finish(visitor.post(f"{first}/continue").headers["Location"])
    assert rest["options"]["min_new_tokens"] == 20
    goes_on = [token["id"] for token in rest["samples"][0]["tokens"]]
    assert goes_on == [token["id"] for token in whole[30:60]]
    assert len(goes_on) >= 20


@pytest.mark.needs("loads_models")
def test_many_visitors_at_once_all_get_their_run_also_with_a_model_nobody_used_before(app, visitor, models):
    name = f"fresh-{len(list(models.iterdir()))}"
    make_model(models / name, seed=9, vocab_size=310)  # a padded embedding: a vocabulary of its own
    with ThreadPoolExecutor(12) as pool:
        runs = list(pool.map(lambda n: Visitor(app).start(model=name, max_new_tokens=2, seed=n), range(24)))
    assert len(set(runs)) == 24
    assert all(visitor.finish(run)["samples"][0]["finish_reason"] == "length" for run in runs)
    shutil.rmtree(models / name)


def test_an_edit_with_another_model_carries_the_text_over(visitor, writer):
    run = visitor.start("the old king", max_new_tokens=5)
    visitor.finish(run)
    other = visitor.finish(visitor.start("the old king and", model="storyteller", parent=run[3:]))
    expected = find_model(writer.engine.models, "storyteller").encode_prompt("the old king and")
    assert [t["id"] for t in other["prompt"]["tokens"]] == expected


def test_an_empty_prompt_is_unconditional_and_can_be_continued(visitor):
    run = visitor.start("", max_new_tokens=8)
    made = visitor.finish(run)
    assert [t["id"] for t in made["prompt"]["tokens"]] == [0]
    assert made["prompt"]["text"] == ""
    again = visitor.finish(visitor.post(f"{run}/continue").headers["Location"])
    assert [t["id"] for t in again["prompt"]["tokens"]][1:] == [t["id"] for t in made["samples"][0]["tokens"]]


def test_a_prompt_longer_than_the_window_says_what_was_not_read(visitor):
    run = visitor.start("the old king said " * 60, max_new_tokens=4)
    made = visitor.finish(run)
    assert made["prompt"]["unread_tokens"] > 0
    assert "were not read" in visitor.get(run).text
    assert 'class="prompt unread"' in visitor.get(run).text


def test_a_moved_window_is_marked_where_it_moved(visitor):
    run = visitor.start("the old king", max_new_tokens=150, temperature=1, top_k=0)
    visitor.finish(run)
    assert visitor.get(run).text.count('class="moved"') >= 2


def test_stop_strings_are_typed_one_on_a_line_with_escapes(visitor):
    run = visitor.start("the old king", stop="one\r\n\\n\\n\r\n\r\na\\\\b", max_new_tokens=3)
    assert visitor.finish(run)["options"]["stop"] == ["one", "\n\n", "a\\b"]
    assert "one\n\\n\\n\na\\\\b</textarea>" in visitor.get(f"/?parent={run[3:]}").text


def test_a_textarea_gives_a_first_newline_back(visitor):
    run = visitor.start("\n\nfirst", max_new_tokens=3)
    visitor.finish(run)
    assert ">\n\n\nfirst</textarea>" in visitor.get(f"/?parent={run[3:]}").text


def test_the_plain_page_breaks_no_line_between_prompt_and_text(visitor):
    run = visitor.start("the old king", max_new_tokens=9)
    said = visitor.finish(run)["samples"][0]["text"]
    story = re.search(r'<p class="story" dir="auto">(.*?)</p>', visitor.get(f"{run}/plain").text, re.S)[1]
    assert html.unescape(re.sub("<[^>]*>", "", story)) == pictured("the old king" + said)


def test_a_page_that_is_opened_the_moment_a_run_is_stored_is_told_all_of_it(app, visitor, friend, monkeypatch):
    """The row can be seen before `start` has returned."""
    events = []

    def stored(**fields):
        new_run(**fields)
        reader = threading.Thread(target=lambda: events.extend(friend.events(f"/r/{fields['id']}")))
        reader.start()
        entry = lambda: app.extensions["rubric"].registry.get(fields["id"])  # noqa: E731
        until(lambda: entry() is not None and entry().viewers, what="a reader")
        readers.append(reader)

    readers = []
    monkeypatch.setattr(service, "new_run", stored)
    run = visitor.start(max_new_tokens=20)
    readers[0].join(60)
    assert not readers[0].is_alive()
    assert events[-1] == {"event": "done", "data": "over"}
    told = "".join(text_of(event["data"]) for event in events if "data" in event)
    assert told == pictured(visitor.json(run)["samples"][0]["text"])


def test_without_scripts_the_plain_page_streams_the_same_text(visitor):
    run = visitor.start("<script>alert(1)</script>", max_new_tokens=300, samples=2)
    page = visitor.get(run).text  # asked for once: the link goes when the run is over
    assert "<noscript>" in page
    assert f'href="{run}/plain"' in page
    plain = visitor.get(f"{run}/plain").text
    assert "<script" not in plain
    assert "&lt;script&gt;" in plain
    assert plain.count('class="story continuation"') == 2
    made = visitor.json(run)
    for number in range(2):
        piece = plain.split('class="story continuation">')[number + 1].split("</p>")[0]
        assert text_of(f'<hx-partial hx-target="#sample-0">{piece}') == pictured(made["samples"][number]["text"])


def test_a_run_with_a_title_full_of_markup_is_escaped_everywhere(visitor):
    run = visitor.start('"><script>alert(1)</script><img src=x onerror=alert(1)>', max_new_tokens=3)
    visitor.finish(run)
    for page in (run, f"{run}/plain", f"/?parent={run[3:]}", f"/?parent={run[3:]}&sample=0"):
        html = visitor.get(page).text
        assert "<script>alert" not in html
        assert "<img src=x" not in html


def test_a_token_takes_86_bytes_in_the_database(app, visitor):
    from sqlalchemy import func, select

    from webapp.runs.tables import Block, db

    run = visitor.start("the old king", max_new_tokens=50)
    visitor.finish(run)
    wait_until_stored(app, run)
    with app.app_context():
        size = db.session.scalar(select(func.sum(func.length(Block.tokens))).where(Block.run_id == run[3:]))
    assert size == 50 * 86


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "2nd."),
        (0.4, "2nd."),
        (3, "2nd, about 5 seconds."),
        (62, "2nd, about 60 seconds."),
        (200, "about 3 minutes."),
    ],
)
def test_a_waiting_run_is_told_its_place_and_how_long_it_may_be(app, visitor, seconds, words):
    from webapp.runs.tables import Run, db

    run_id = visitor.start(max_new_tokens=1).rsplit("/", 1)[1]
    visitor.events(f"/r/{run_id}")
    with app.app_context():
        view = app.extensions["rubric"].look(db.session.get(Run, run_id))
    view.log.state, view.log.place, view.log.seconds = "waiting", 2, seconds
    assert view.status().endswith(words)


def test_a_run_whose_model_was_restarted_says_so(app, visitor):
    from webapp.runs.tables import Run, db

    run_id = visitor.start(max_new_tokens=1).rsplit("/", 1)[1]
    visitor.events(f"/r/{run_id}")
    with app.app_context():
        view = app.extensions["rubric"].look(db.session.get(Run, run_id))
    view.log.state = "writing"
    view.log.note_restart()
    assert view.status() == "Writing… It was interrupted once; nothing is lost."
