"""Every engine keeps what its interface promises: the one of this machine, and the tests' own, which tells all or little."""

import shutil
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np
import pytest
from conftest import finished, started
from engines import ids_of, until, until_written
from fake_engine import EVERYTHING, FakeEngine
from remotes import remote, upstream

from generate import (
    Busy,
    Capabilities,
    Engine,
    LocalEngine,
    Refusal,
    RemoteEngine,
    Request,
    RunLog,
    Sampling,
    find_model,
    known,
)
from webapp.routes.suggestions import MOST_TURNS
from webapp.sheets.suggestions import COUNT

LONG = 4096


def local(models, **line):
    return LocalEngine(models, device="cpu", precision="float32", threads=1, **line).start("tiny")


def through(servers, kind):
    """Makes engines that ask a second Rubric, which says that it is one, or is asked as vLLM is."""
    return lambda models, **line: remote(models, servers[kind], **line)


ENGINES = {
    "local": local,
    "another Rubric": "rubric",
    "vLLM, as far as one can be played": "vllm",
    "fake": lambda models, **line: FakeEngine(EVERYTHING, **line),
    "fake that tells little": lambda models, **line: FakeEngine(Capabilities(), **line),
}


@pytest.fixture(scope="module")
def servers(models, tmp_path_factory):
    """Second Rubrics: one as it is, and one that does not say what it is. They have `tiny` alone."""
    few = tmp_path_factory.mktemp("few")
    shutil.copytree(models / "tiny", few / "tiny")
    with ExitStack() as stack:
        made = {k: stack.enter_context(upstream(few, tmp_path_factory.mktemp(k))) for k in ("rubric", "vllm")}
        made["vllm"].between.poses_as = "vllm"
        yield made


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES.keys())
def make(request, models):
    """Makes an engine; `max_rows` and `max_waiting` are the length of its line."""
    kind = request.param
    maker = through(request.getfixturevalue("servers"), kind) if isinstance(kind, str) else kind
    return lambda **line: started(maker(models, **line))


@pytest.fixture(scope="module")
def engine(make):
    with closing(make()) as engine:
        yield engine


def asked(folder, **options) -> Request:
    return Request(folder, Sampling(**({"seed": 5, "max_new_tokens": 20, "temperature": 1, "top_k": 7} | options)))


def submit(engine, folder, text="the old king", **options) -> RunLog:
    request = asked(folder, **options)
    return engine.submit(request, request.new_log(folder.encode_prompt(text)))


def test_it_has_all_that_a_page_asks_for(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine.capabilities, Capabilities)
    assert "tiny" in engine.loaded
    assert engine.ready() is None


def test_a_run_is_written_into_its_log(engine, tiny):
    request = asked(tiny, samples=2)
    log = request.new_log(tiny.encode_prompt("the old king"))
    assert engine.submit(request, log) is log
    finished(log)
    for sample in log.samples:
        assert (len(sample), sample.released, sample.finish_reason, sample.error) == (20, 20, "length", None)
        assert sample.text_end == sample.size(tiny.tokenizer.vocabulary)
        assert known(sample.read()).all()
    assert log.prompt_ids == list(tiny.encode_prompt("the old king"))
    assert (log.fingerprint, log.device) in [(tiny.fingerprint(), "cpu"), (tiny.fingerprint(), None)]


def test_a_stop_string_ends_a_sample_before_itself(engine, tiny):
    whole = finished(submit(engine, tiny))
    text = tiny.tokenizer.vocabulary.bytes_of(whole.samples[0].read()["id"].tolist()).decode("utf-8", "replace")
    stop = next(text[n : n + 2] for n in range(3, len(text)) if text[n : n + 2].isascii() and text[n:].strip())
    if not engine.capabilities.resumes_exactly:
        stop = "e"
    sample = finished(submit(engine, tiny, stop=(stop,), max_new_tokens=LONG)).samples[0]
    said = tiny.tokenizer.vocabulary.bytes_of(sample.read()["id"].tolist())
    assert sample.finish_reason == "stop"
    assert sample.text_end == said.find(stop.encode())


def test_a_sample_has_whatever_number_a_page_gives_it(engine, tiny):
    """Suggestions are counted on from one asking to the next, and what goes on from one keeps its number."""
    request = replace(asked(tiny, max_new_tokens=4), first_sample=COUNT * MOST_TURNS + 31)
    run = finished(engine.submit(request, request.new_log(tiny.encode_prompt("the old king"))))
    assert (run.samples[0].finish_reason, run.samples[0].error) == ("length", None)


def test_an_empty_prompt_is_refused(engine, tiny):
    request = asked(tiny)
    with pytest.raises(Refusal, match="prompt"):
        engine.submit(request, request.new_log(()))


def test_what_it_claims_to_tell_it_tells_and_the_rest_stays_unknown(engine, tiny):
    run, can = finished(submit(engine, tiny)), engine.capabilities
    written = run.samples[0].read()
    assert known(written, "logprob").all()
    assert known(written, "alt_logprobs").any(axis=1).all()
    for field, claimed in {"entropy": can.entropy, "rank": can.rank, "log_z": can.kept_set}.items():
        assert set(known(written, field)) == {claimed}, field
    told = known(written, "sampled_logprob")
    assert can.kept_set <= told.all()
    assert (told == known(written, "cut")).all()
    for record in written[told]:  # of seven tokens that are left, and all known, anybody can work it out
        left = known(record, "alt_logprobs") & ~(record["cut"] >> np.arange(10) & 1).astype(bool)
        shares = np.exp(record["alt_logprobs"][left].astype(float))
        assert np.exp(record["sampled_logprob"]) == pytest.approx(np.exp(record["logprob"]) / shares.sum(), rel=1e-3)
    assert set(known(run.prompt[1:])) == {can.scores_prompt}
    assert not known(run.prompt[0])
    assert not known(run.prompt, "cut").any(), "no sampler saw the prompt"


def test_a_text_is_only_read_where_that_is_claimed(engine, tiny):
    if engine.capabilities.scores_prompt:
        run = finished(submit(engine, tiny, max_new_tokens=0))
        assert known(run.prompt[1:]).all()
        assert (len(run.samples[0]), run.samples[0].finish_reason) == (0, "length")
    else:
        with pytest.raises(Refusal):
            submit(engine, tiny, max_new_tokens=0)


def test_another_model_is_loaded_where_that_is_claimed(make, models):
    with closing(make()) as engine:
        other = find_model(models, "other")
        assert "other" not in engine.loaded
        if engine.capabilities.loads_models:
            assert finished(submit(engine, other)).fingerprint == other.fingerprint()
            assert {"tiny", "other"} == set(engine.loaded)
        else:
            with pytest.raises(Refusal):
                submit(engine, other)


def test_what_was_known_of_a_prompt_stays(engine, tiny):
    request = asked(tiny)
    records = request.new_log(tiny.encode_prompt("the old king said")).prompt.copy()
    records["logprob"][1:3], records["rank"][1:3] = -55, 77
    run = finished(engine.submit(request, RunLog(records, 1)))
    assert run.prompt[1:3].tobytes() == records[1:3].tobytes()
    assert set(known(run.prompt[3:])) == {engine.capabilities.scores_prompt}


def test_a_log_that_was_written_in_part_goes_on_from_its_last_tokens(engine, tiny):
    wish = {"samples": 3, "temperature": 1.0}
    whole = finished(submit(engine, tiny, **wish))
    half = RunLog(whole.prompt, 3)
    for sample, full, count in zip(half.samples, whole.samples, (4, 0, 20), strict=True):
        sample.append(full.read(0, count), count)
    half.finish(half.samples[0], "cancelled", 7)
    resumed = finished(engine.submit(asked(tiny, **wish), half))
    ended, gone_on, complete = resumed.samples
    assert (len(ended), ended.finish_reason, ended.text_end) == (4, "cancelled", 7)
    assert (len(gone_on), gone_on.finish_reason) == (20, "length")
    assert complete.read().tobytes() == whole.samples[2].read().tobytes()


@pytest.mark.parametrize("again", ["from the start", "from the middle"])
def test_the_same_seed_says_the_same_where_that_is_claimed(engine, tiny, again):
    whole = finished(submit(engine, tiny, max_new_tokens=40))
    log = RunLog(whole.prompt, 1)
    if again == "from the middle":
        log.samples[0].append(whole.samples[0].read(0, 11), 11)
    second = finished(engine.submit(asked(tiny, max_new_tokens=40), log))
    same = ids_of(second) == ids_of(whole)
    assert same if engine.capabilities.resumes_exactly else isinstance(engine, RemoteEngine) or not same


@pytest.mark.parametrize("reason", ["cancelled", "unwatched"])
def test_a_cancelled_run_keeps_its_text_and_has_the_reason(engine, tiny, reason):
    run = submit(engine, tiny, max_new_tokens=LONG, samples=2)
    until_written(run, 3)
    engine.cancel(run, reason)
    finished(run)
    assert [sample.finish_reason for sample in run.samples] == [reason] * 2
    assert all(3 <= len(sample) < LONG for sample in run.samples)
    assert run.samples[0].text_end == run.samples[0].size(tiny.tokenizer.vocabulary)
    engine.cancel(run, "error")
    assert finished(submit(engine, tiny)).samples[0].finish_reason == "length", "and the engine goes on"
    assert run.samples[0].finish_reason == reason


def test_a_run_that_waits_is_told_its_place_and_a_full_line_is_busy(make, tiny):
    with closing(make(max_rows=1, max_waiting=2)) as engine:
        assert engine.outlook.full is False
        first = submit(engine, tiny, max_new_tokens=LONG)
        until_written(first, 1)
        second, third = (submit(engine, tiny, max_new_tokens=LONG) for _ in range(2))
        until(lambda: (second.place, third.place) == (1, 2), what="both places")
        assert (second.state, third.state) == ("waiting", "waiting")
        with pytest.raises(Busy):
            submit(engine, tiny)
        until(lambda: (engine.outlook.writing, engine.outlook.waiting) == (1, 2), what="the outlook")
        assert engine.outlook.full is True
        engine.cancel(second)
        assert finished(second).samples[0].finish_reason == "cancelled"
        until(lambda: third.place == 1, what="a better place")
        assert engine.outlook.full is False
        engine.cancel(first)
        until_written(third, 1)


def test_closed_it_takes_nothing_more_and_unfinished_runs_can_be_gone_on_with(make, tiny):
    engine = make()
    run = submit(engine, tiny, max_new_tokens=LONG)
    until_written(run, 3)
    engine.close()
    engine.close()
    count = len(run.samples[0])
    assert not run.done
    assert run.samples[0].finish_reason is None
    assert "stopped" in engine.ready()
    with pytest.raises(Busy):
        submit(engine, tiny)
    with closing(make()) as another:
        another.submit(asked(tiny, max_new_tokens=count + 5), run)
        assert len(finished(run).samples[0]) == count + 5


def test_rest_is_told_as_rest(engine):
    until(lambda: engine.outlook.writing == 0, what="rest")
    assert (engine.outlook.waiting, engine.outlook.seconds, engine.outlook.full) == (0, 0.0, False)


def test_the_prompt_of_a_log_is_its_own(tiny):
    """Whoever made it cannot change it afterwards, and whoever reads it cannot either."""
    records = asked(tiny).new_log((1, 2, 3)).prompt.copy()
    log = RunLog(records, 1)
    records["id"] = 9
    assert log.prompt_ids == [1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        log.prompt["logprob"] = 0
    with pytest.raises(AttributeError):
        log.prompt = records
    learned = np.copy(log.prompt)
    learned["logprob"], learned["rank"] = -1, 3
    shown = log.prompt
    log.learn(1, learned[1:])
    assert shown["rank"].tolist() == [0, 3, 3], "what is learned appears where it is read"


def test_it_counts_what_it_does_by_model(make, tiny):
    with closing(make(max_rows=1, max_waiting=1)) as engine:
        assert finished(submit(engine, tiny, samples=2, max_new_tokens=9)).done
        long = submit(engine, tiny, max_new_tokens=LONG)
        until_written(long, 1)
        assert engine.rows.get("tiny") == 1
        waiting = submit(engine, tiny, max_new_tokens=LONG)
        with pytest.raises(Busy):
            submit(engine, tiny)
        for run in (waiting, long):
            engine.cancel(run)
        finished(long)
        finished(waiting)
        written = sum(len(sample) for sample in long.samples)
        until(lambda: not any(engine.rows.values()), 10, "the end of all rows")
        until(lambda: engine.tallies["tiny"].written >= 18 + written, 10, "the count of all tokens")
        (tally,) = engine.tallies.values()
        assert list(engine.tallies) == ["tiny"]
        assert (tally.runs, tally.refused) == (3, 1)
        assert dict(tally.ended) == {"length": 2, "cancelled": 2}
        assert 18 + written <= tally.written <= 18 + written + 2, (
            "a token more may have been on its way when it was stopped"
        )
        assert tally.first_token.count == 2, "of the two that wrote anything"
        assert 0 < tally.first_token.sum < 60


def test_what_yields_is_counted_by_its_tokens_alone(engine, tiny):
    finished(submit(engine, tiny, max_new_tokens=1))
    until(lambda: not any(engine.rows.values()), 10, "rest")
    before = engine.tallies["tiny"]
    counted = (before.runs, before.first_token.count, before.written)
    request = replace(asked(tiny, max_new_tokens=5), yields=True)
    finished(engine.submit(request, request.new_log(tiny.encode_prompt("the"))))
    until(lambda: engine.tallies["tiny"].written == counted[2] + 5, 10, "the count of all tokens")
    after = engine.tallies["tiny"]
    assert (after.runs, after.first_token.count) == counted[:2]
