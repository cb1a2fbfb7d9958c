"""What a run says depends on its own request alone, and it ends as it should."""

import shutil
import threading

import numpy as np
import pytest
from conftest import DEVICE, TRICKY, Writer, finished, started
from engines import until_written
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from generate import Busy, LocalEngine, Refusal, RunLog, find_model, window_start


def test_alone_and_in_a_batch_of_eight_the_same_seed_gives_the_same_ids(writer):
    wishes = [
        {"seed": seed, "top_k": k, "top_p": p, "temperature": t, "repetition_penalty": r, "max_new_tokens": n}
        for seed, k, p, t, r, n in [
            (1, 40, 1, 0.8, 1, 30), (1, 40, 1, 0.8, 1.3, 30), (2, 0, 1, 1, 1, 50), (3, 0, 0.5, 1.2, 1, 5),
            (4, 200, 0.9, 1, 1.1, 40), (5, 1, 1, 1, 1, 20), (6, 0, 1, 0, 1, 33), (4294967295, 7, 0.3, 5, 0.5, 41),
        ]
    ]  # fmt: skip
    alone = [writer.ids("The old king", **wish)[0] for wish in wishes]
    together = [writer.submit("The old king", **wish) for wish in wishes]
    assert [finished(run).samples[0].read()["id"].tolist() for run in together] == alone


def test_samples_of_one_run_differ_and_repeat_with_the_seed(writer):
    first = writer.ids("The old king", samples=6, model="storyteller", top_k=40)
    assert len({tuple(ids) for ids in first}) == 6
    assert writer.ids("The old king", samples=6, model="storyteller", top_k=40) == first
    assert writer.ids("The old king", samples=2, model="storyteller", top_k=40) == first[:2]


def test_the_sampler_draws_tokens_as_often_as_their_probability_says(writer):
    first = writer.write("the fox", max_new_tokens=1)
    expected = np.exp(first.samples[0].read()["alt_logprobs"][0])
    top = first.samples[0].read()["alt_ids"][0][0]
    runs = [writer.write("the fox", max_new_tokens=1, samples=32, seed=seed) for seed in range(40)]
    drawn = [sample.read()["id"][0] for run in runs for sample in run.samples]
    share = np.mean(np.array(drawn) == top)
    # 1280 draws: a fair sampler strays by more than five standard deviations less than once in a million times
    assert abs(share - expected[0]) < 5 * (expected[0] * (1 - expected[0]) / 1280) ** 0.5


def test_a_continuation_says_what_a_longer_run_would_have_said(writer):
    long = writer.write("The old king", max_new_tokens=60, samples=3, seed=9, repetition_penalty=1.2)
    short = writer.write("The old king", max_new_tokens=25, samples=3, seed=9, repetition_penalty=1.2)
    for number in range(3):
        ids = [*short.prompt["id"], *short.samples[number].read()["id"]]
        options = {"max_new_tokens": 35, "seed": 9, "repetition_penalty": 1.2}
        rest = writer.ids(ids=[int(i) for i in ids], first_sample=number, **options)[0]
        assert short.samples[number].read()["id"].tolist() + rest == long.samples[number].read()["id"].tolist()


def test_past_the_window_a_run_and_its_continuation_still_agree(writer):
    long = writer.ids("The old king", max_new_tokens=200, seed=4)[0]
    assert len(long) == 200  # the tiny window holds 64
    prompt = find_model(writer.engine.models, "tiny").encode_prompt("The old king")
    for cut in (63 - len(prompt), 64 - len(prompt), 65 - len(prompt), 100, 150):
        rest = writer.ids(ids=prompt + long[:cut], max_new_tokens=200 - cut, seed=4)[0]
        assert long[:cut] + rest == long


def test_a_window_restart_is_the_same_in_company(writer):
    alone = writer.ids("The old king", max_new_tokens=150, seed=4)[0]
    runs = [writer.submit("The old king", max_new_tokens=150, seed=4) for _ in range(5)]
    assert all(finished(run).samples[0].read()["id"].tolist() == alone for run in runs)


@given(st.integers(0, 10_000), st.integers(1, 1024))
def test_the_window_always_holds_the_newest_tokens_and_never_too_many(count, n_positions):
    seen = count - window_start(count, n_positions)
    assert min(count, max(1, n_positions // 2)) <= seen <= n_positions
    assert window_start(count, n_positions) <= window_start(count + 1, n_positions)


def test_an_empty_prompt_starts_from_the_end_token(writer):
    run = writer.write("", "storyteller", max_new_tokens=5)
    assert run.prompt["id"].tolist() == [0]


def test_a_model_without_an_end_token_refuses_an_empty_prompt(writer):
    with pytest.raises(Refusal, match="write a prompt"):
        writer.submit(ids=[])


def test_the_end_token_stops_a_sample_and_is_not_in_its_text(writer):
    run = writer.write("", "storyteller", samples=16, max_new_tokens=60, top_k=40)
    ended = [n for n, sample in enumerate(run.samples) if sample.finish_reason == "stop"]
    assert ended
    for n in ended:
        assert run.samples[n].read()["id"][-1] == 0
        assert "endoftext" not in writer.text(run, "storyteller", n)


def test_a_sample_does_not_end_before_its_time_and_goes_on_as_a_longer_one_would(writer):
    """One of these ends after some tokens; made to go on, it says the same up to there. So many tokens come before the end
    token, as in `transformers`."""
    asked = {"model": "storyteller", "max_new_tokens": 60, "seed": 7, "samples": 9, "temperature": 0.8, "top_k": 40}
    free = writer.write("", **asked)
    number = next(n for n, sample in enumerate(free.samples) if sample.finish_reason == "stop")
    said = free.samples[number].read()["id"].tolist()
    for least in (len(said) - 1, len(said), 60):
        held = writer.write("", **asked, min_new_tokens=least).samples[number]
        ids = held.read()["id"].tolist()
        assert ids[: len(said) - 1] == said[:-1]
        assert (ids == said) is (least < len(said))
        assert len(ids) >= least
    assert held.finish_reason == "length"


def test_a_stop_string_before_its_time_does_not_stop(writer):
    def written(**more):
        return writer.text(writer.write("the old king", "storyteller", max_new_tokens=30, **more), "storyteller")

    whole = written()
    stop = whole[12:15]
    assert written(stop=[stop]) == whole[: whole.index(stop)]
    assert written(stop=[stop], min_new_tokens=29)[:40] == whole[:40]


def test_a_stop_string_is_found_within_and_across_tokens_and_not_shown(writer):
    whole = writer.text(writer.write("The old king", "storyteller", max_new_tokens=60), "storyteller")
    for low in (5, 11, 12, 13, 20, 41):
        for size in (1, 2, 3, 9, 17):
            stop = whole[low : low + size]
            run = writer.write("The old king", "storyteller", max_new_tokens=60, stop=[stop, "never said this"])
            assert run.samples[0].finish_reason == "stop"
            assert writer.text(run, "storyteller") == whole[: whole.index(stop)]


def test_a_stop_string_in_the_prompt_does_not_stop(writer):
    assert writer.write("stop here", stop=["stop here"], max_new_tokens=3).samples[0].finish_reason == "length"


def test_what_was_released_never_has_to_be_taken_back(writer):
    """A reader who takes every release sees the beginning of the final text, in whole characters, at any moment."""
    vocabulary = find_model(writer.engine.models, "tiny").tokenizer.vocabulary
    run = writer.submit("从前 🦊", max_new_tokens=300, stop=["从前有", "xx", "\n\n"], seed=3, temperature=3)
    seen, version = [], 0
    while not run.done:
        version = run.wait(version, 1)
        with run.changed:
            if run.samples[0].finish_reason is None:
                seen.append(run.samples[0].released)
    final = writer.text(run)
    assert seen == sorted(seen)
    ids = run.samples[0].read()["id"]
    for count in set(seen):
        assert final.startswith(vocabulary.bytes_of(ids[:count]).decode("utf-8", "replace"))


def test_cancelling_ends_a_run_and_keeps_its_text(writer):
    run = writer.submit(max_new_tokens=4096)
    until_written(run, 10)
    writer.engine.cancel(run)
    at = len(run.samples[0])
    finished(run)
    assert run.samples[0].finish_reason == "cancelled"
    assert at <= len(run.samples[0]) <= at + 2


def test_a_short_request_is_not_held_up_by_a_long_one(writer):
    long = writer.submit(max_new_tokens=4096)
    short = writer.write(max_new_tokens=3)
    assert short.done
    assert not long.done
    writer.engine.cancel(long)
    finished(long)


def test_a_long_prompt_is_cut_from_the_left(writer):
    ids = find_model(writer.engine.models, "tiny").encode_prompt("the old king said " * 40)
    start = window_start(len(ids), 64)
    run = writer.write(ids=ids, max_new_tokens=10, temperature=0)
    assert np.isnan(run.prompt["logprob"][: start + 1]).all()
    assert not np.isnan(run.prompt["logprob"][start + 1 :]).any()
    assert run.samples[0].read()["id"].tolist()[0] == writer.ids(ids=ids[start:], max_new_tokens=1, temperature=0)[0][0]


def test_a_step_that_raises_ends_its_rows_with_error_and_the_engine_goes_on(writer, monkeypatch):
    run = writer.submit(max_new_tokens=4096)
    until_written(run, 5)
    batch = writer.batch()
    monkeypatch.setattr(batch.model, "logits", lambda hidden: 1 / 0)
    finished(run)
    monkeypatch.undo()
    assert run.samples[0].finish_reason == "error"
    assert "ZeroDivisionError" in str(run.samples[0].error)
    assert len(run.samples[0]) >= 5
    assert writer.write(max_new_tokens=3).samples[0].finish_reason == "length"


def test_memory_that_runs_out_while_a_row_joins_ends_that_run_alone(writer, monkeypatch):
    other = writer.submit(max_new_tokens=4096)
    until_written(other, 3)
    cache = writer.batch().cache
    real, calls = cache.join, []

    def join(*given, **named):
        calls.append(given)
        if len(calls) >= 2:
            raise MemoryError("no room")
        return real(*given, **named)

    monkeypatch.setattr(cache, "join", join)
    run = finished(writer.submit(samples=3, max_new_tokens=5))
    monkeypatch.undo()
    assert [sample.finish_reason for sample in run.samples] == ["error"] * 3
    assert not other.done
    writer.engine.cancel(other)
    finished(other)
    assert writer.write(max_new_tokens=3).done


def test_an_engine_whose_thread_dies_leaves_nobody_waiting(models, monkeypatch):
    engine = started(LocalEngine(models, device=DEVICE, precision="float32", max_rows=1).start("tiny"))
    running, waiting = Writer(engine).submit(max_new_tokens=4096), Writer(engine).submit()
    monkeypatch.setattr(engine, "_take_asked", lambda: 1 / 0)
    for run in (running, waiting):
        assert finished(run).samples[0].finish_reason == "error"
    assert "has stopped" in engine.ready()
    with pytest.raises(Busy, match="has stopped"):
        Writer(engine).submit()


def test_weights_that_were_replaced_are_loaded_before_they_are_used(tmp_path, models):
    for name in ("tiny", "other"):
        shutil.copytree(models / name, tmp_path / name)
    engine = started(LocalEngine(tmp_path, device=DEVICE, precision="float32").start("tiny"))
    try:
        first = Writer(engine).write("the old king")
        shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "tiny" / "model.safetensors")
        second = Writer(engine).write("the old king")
        assert second.fingerprint != first.fingerprint
        assert second.samples[0].read()["id"].tolist() != first.samples[0].read()["id"].tolist()
        assert second.fingerprint == find_model(tmp_path, "other").fingerprint()
    finally:
        engine.close()


def test_numbers_out_of_range_end_only_the_row_they_are_in(writer, monkeypatch):
    runs = [writer.submit(max_new_tokens=4096, seed=seed) for seed in (1, 2)]
    for run in runs:
        until_written(run, 3)
    model = writer.batch().model
    real = model.logits

    def poison(hidden):
        logits = real(hidden)
        if len(logits) == 2:
            logits[0] = float("nan")
        return logits

    monkeypatch.setattr(model, "logits", poison)
    until(lambda: any(run.done for run in runs), what="the end of one of them")
    monkeypatch.undo()
    bad, good = sorted(runs, key=lambda run: not run.done)
    until_written(good, len(good.samples[0]) + 5)
    writer.engine.cancel(good)
    assert finished(good).samples[0].finish_reason == "cancelled"
    assert bad.samples[0].finish_reason == "error"
    assert "NaN" in str(bad.samples[0].error)


def test_another_model_is_loaded_when_a_run_asks_for_it(writer, monkeypatch):
    shutil.copytree(writer.engine.models / "other", writer.engine.models / "unseen")
    writer.write(model="tiny")
    states, real = [], RunLog.set_state
    monkeypatch.setattr(RunLog, "set_state", lambda run, *given: states.append(given[0]) or real(run, *given))
    run = finished(writer.submit(model="unseen"))
    assert "loading" in states
    assert writer.engine.loaded[0] == "unseen"
    shutil.rmtree(writer.engine.models / "unseen")
    assert run.samples[0].finish_reason == "length"


def test_more_samples_than_rows_take_turns(models):
    engine = started(LocalEngine(models, device=DEVICE, precision="float32", max_rows=3).start("tiny"))
    try:
        few = Writer(engine)
        run = few.write(samples=8, max_new_tokens=90)
        assert all(len(sample) == 90 for sample in run.samples)
        assert few.ids(samples=8, max_new_tokens=12)[7] == few.ids(first_sample=7, max_new_tokens=12)[0]
    finally:
        engine.close()


def test_a_full_line_refuses_and_tells_places(models):
    engine = started(LocalEngine(models, device=DEVICE, precision="float32", max_rows=1, max_waiting=2).start("tiny"))
    try:
        line = Writer(engine)
        running = line.submit(max_new_tokens=4096)
        until_written(running, 1)
        first = line.submit()
        engine.max_waiting = 1
        with pytest.raises(Busy, match="one run is waiting"):
            line.submit()
        engine.max_waiting = 2
        second = line.submit()
        assert (first.place, second.place) == (1, 2)
        with pytest.raises(Busy, match="2 runs are waiting"):
            line.submit()
        engine.cancel(first)
        finished(first)
        until(lambda: second.place == 1, what="a better place")
        engine.cancel(running)
        assert finished(second).samples[0].finish_reason == "length"
    finally:
        engine.close()


def test_half_characters_of_a_prompt_are_completed_not_broken(writer):
    """A continuation that begins inside a character is released when that character is whole."""
    folder = find_model(writer.engine.models, "tiny")
    ids = [folder.encode_prompt("é")[0]] if len(folder.encode_prompt("é")) > 1 else []
    assert ids, "the tiny vocabulary should cut é in half"
    run = writer.write(ids=ids, max_new_tokens=30)
    assert run.samples[0].released == 30


def test_tricky_text_survives_the_tokenizer(models):
    for name in ("storyteller", "tiny"):
        folder = find_model(models, name)
        assert folder.tokenizer.vocabulary.bytes_of(folder.encode_prompt(TRICKY)).decode() == TRICKY


def test_the_engine_closes_in_mid_run(models):
    threads = set(threading.enumerate())
    engine = started(LocalEngine(models, device=DEVICE, precision="float32").start("tiny"))
    run = Writer(engine).submit(max_new_tokens=4096)
    assert len(threading.enumerate()) == len(threads) + 1
    engine.close()
    assert set(threading.enumerate()) <= threads
    assert not run.done
