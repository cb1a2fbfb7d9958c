"""A run of another server can be watched here as it is written there."""

from contextlib import closing

from conftest import pictured
from rounds import Reader, copy, cut, go_on, told
from sqlalchemy import func, select

from webapp.runs.tables import Block, db


def test_a_viewer_of_another_server_sees_a_run_in_steps_its_place_in_line_and_its_end(a, b):
    original = a.write(max_new_tokens=30, samples=2)
    run, log, whole = copy(a, original)
    log.set_state("waiting", 2, 62)
    a.do("save")
    with closing(Reader(b, run)) as reader:
        b.do("follow")
        reader.until(status="Waiting in line: 2nd, about 60 seconds.")
        seen = set()
        for _ in range(10):
            go_on(log, whole, 3)
            a.do("save")
            b.do("follow")
            reader.until() if not log.done else reader.until("done")
            seen.add(reader.shown["#sample-1"])
    assert len(seen) >= 9
    assert [reader.shown[f"#sample-{n}"] for n in range(2)] == [pictured(s[1]) for s in told(a, original)]
    assert reader.shown["#status"].startswith("Done: 2 samples")
    assert not b.knows(run)
    assert told(b, run) == told(a, run) == told(a, original)
    assert b.visitor.get(f"{run}.json").data == a.visitor.get(f"{run}.json").data


def test_a_viewer_of_another_server_gets_the_prompt_s_statistics_though_they_come_after_the_first_tokens(a, b):
    run, log, whole = copy(a, a.write(max_new_tokens=30))
    go_on(log, whole, 5)
    a.do("save")
    page = b.visitor.get(run).text
    assert "&amp;prompt" in page, "the page asks to be told"
    assert b.visitor.json(run)["prompt"]["tokens"][1]["logprob"] is None
    log.close_prompt()
    a.do("save")
    b.do("follow")
    assert "&amp;prompt" not in b.visitor.get(run).text
    assert b.visitor.json(run)["prompt"]["tokens"][1]["logprob"] is not None


def test_a_viewer_of_another_server_is_told_when_the_run_is_deleted(a, b):
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    a.do("save")
    with closing(Reader(b, run)) as there, closing(Reader(a, run)) as here:
        there.until(**{"sample-0": here.until(status="Writing…").shown["#sample-0"]})
        a.visitor.post(f"{run}/delete")
        go_on(log, whole, 5)
        a.do("save")
        b.do("follow")
        for reader in (there, here):
            reader.until("done")
            assert "deleted by the person who started it" in reader.shown["#main"]
    assert not a.knows(run)
    assert not b.knows(run)
    with a.app.app_context():
        assert db.session.scalar(select(func.count()).where(Block.run_id == run[3:])) == 0


def test_three_watching_counts_the_viewers_of_all_servers(a, b):
    run, log, whole = copy(a, a.write())
    go_on(log, whole, 5)
    a.do("save")
    with closing(Reader(a, run)) as here, closing(Reader(b, run)) as there:
        with closing(Reader(b, run)):
            tell_everybody(a, b)
            here.until(watching="3 watching")
            there.until(watching="3 watching")
        tell_everybody(a, b)
        here.until(watching="2 watching")
        there.until(watching="2 watching")


def tell_everybody(a, b):
    b.do("tell_viewers")
    a.do("tell_viewers", "save")
    b.do("follow")


def test_many_runs_of_many_samples_can_be_followed_at_once(a, b):
    run = a.write(samples=32, max_new_tokens=1)
    runs = [copy(a, run) for _ in range(33)]
    for address, log, whole in runs:
        b.visitor.get(address)
        go_on(log, whole, 1)
    a.do("save")
    b.do("follow")
    assert not any(b.knows(address) for address, *_ in runs)


# Readers who are ahead of what was stored


def test_a_reader_who_saw_more_than_was_stored_waits_and_then_gets_the_text_anew_once(a, b):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 10)
    a.do("save")
    with closing(Reader(b, run, last="16")) as reader:
        b.do("follow")
        reader.until(status="Writing…")
        for _ in range(5):
            go_on(log, whole, 4)
            a.do("save")
            b.do("follow")
            if len(log.samples[0]) >= 16:
                reader.until("done" if log.done else None)
    assert reader.swaps[0] == "innerHTML"
    assert set(reader.swaps[1:]) == {"beforeend"}
    assert reader.shown["#sample-0"] == pictured(told(a, original)[0][1])


def test_a_reader_who_saw_more_than_the_run_ever_had_gets_its_text_anew(a, b):
    run = a.write(max_new_tokens=30)
    cut(a, run, 9)
    with closing(Reader(b, run, last="16")) as reader:
        reader.shown["#sample-0"] = "what was never stored"
        a.visitor.post(f"{run}/stop")
        b.do("reap", "follow")
        reader.until("done")
    assert reader.swaps == ["innerHTML"]
    assert reader.shown["#sample-0"] == pictured(told(b, run)[0][1])


def test_a_reader_who_saw_more_than_was_stored_and_is_cut_off_again_sees_nothing_twice(a, b):
    original = a.write(max_new_tokens=30)
    run, log, whole = copy(a, original)
    go_on(log, whole, 10)
    a.do("save")
    go_on(log, whole, 8)
    with closing(Reader(a, run)) as first:
        first.until(status="Writing…")
    b.visitor.get(run)
    b.do("follow")
    with closing(Reader(b, run, first.last)) as waiting:
        waiting.until(status="Writing…")
    go_on(log, whole, 30)
    a.do("save")
    b.do("follow")
    with closing(Reader(b, run, waiting.last)) as again:
        again.shown = dict(first.shown)
        again.until("done")
    assert again.shown["#sample-0"] == pictured(told(a, original)[0][1])
