"""What goes wrong inside a step costs as little as it can: a retry, a restart, or the run at fault."""

from collections import Counter
from functools import cached_property

import pytest
import torch
from conftest import finished
from engines import at_once, ids_of, running, stop, until_written, watch
from waiting import until

from generate import find_model
from generate.scheduling.batch import Batch
from generate.scheduling.memory import poisoned
from generate.transformer.bucket import Bucket

LONG = 4096
FAULT = "CUDA error: an illegal memory access was encountered (invented by a test)"


@pytest.fixture
def three(models):
    """A writer with three rows, whose engine a test may break."""
    with running(models, max_rows=3, prefix_memory=0) as writer:
        yield writer


@pytest.fixture
def eight(models):
    with running(models, max_rows=8, prefix_memory=0) as writer:
        yield writer


def fail_once(batch, when, error):
    """Let the first pass of the model after `when(batch)` raise; returns a list that is filled when it did."""
    fired, armed = [], []
    watch(batch, lambda batch: armed.append(True) if when(batch) else None)
    real = batch.model.hidden

    def hidden(*given):
        if armed and not fired:
            fired.append(Counter(id(sequence.run) for sequence in batch.admitted()))
            raise error
        return real(*given)

    batch.model.hidden = hidden
    return fired


def reads(batch) -> bool:
    """Whether a text is half read while others write."""
    return bool(batch.sequences) and any(r.statistics and r.prefix.length and r.left for r in batch.prefills)


def restarted(batch) -> bool:
    """Whether a row has filled its window and begun it again."""
    return any(sequence.window > 0 for sequence in batch.sequences)


def test_only_a_fault_of_the_device_is_one():
    assert poisoned(torch.AcceleratorError(FAULT))
    assert not poisoned(RuntimeError(FAULT))
    assert not poisoned(MemoryError())


def test_after_a_fault_of_the_device_all_runs_go_on_as_if_nothing_had_been(eight, models):
    """Some write, one has a penalty, one has restarted its window, and one still reads its prompt."""
    ids = tuple(find_model(models, "tiny").encode_prompt("the old king said to the young fox " * 5))[:60]
    wishes = [
        {"text": "one two", "max_new_tokens": 80, "samples": 2},
        {"text": "the king", "max_new_tokens": 90, "repetition_penalty": 1.4, "top_k": 9},
        {"text": "the sea", "max_new_tokens": 200, "seed": 3},
        {"ids": ids, "max_new_tokens": 30, "seed": 4, "temperature": 0.7},
    ]
    alone = [eight.ids(**wish) for wish in wishes]
    eight.batch().pace.budget = lambda rows: 8  # tokens read in a step
    eight.batch().prefix_cache.drop()
    fired = fail_once(eight.batch(), lambda b: reads(b) and restarted(b), torch.AcceleratorError(FAULT))
    late = []
    watch(eight.batch(), lambda b: late or not restarted(b) or late.append(eight.submit(**wishes[3])))
    with at_once(eight):
        early = [eight.submit(**wish) for wish in wishes[:3]]
    runs = [finished(run) for run in [*early, *until(lambda: late, what="the prompt")]]
    assert fired, "the moment to fail never came"
    assert [ids_of(run) for run in runs] == alone
    assert {sample.error for run in runs for sample in run.samples} == {None}
    assert late[0].restarts == 1
    assert late[0].prompt["logprob"] == pytest.approx(eight.write(**wishes[3]).prompt["logprob"], abs=1e-4, nan_ok=True)


def test_after_a_fault_samples_that_still_wait_for_a_row_get_theirs(three):
    wish = {"text": "the old king " * 30, "model": "storyteller", "samples": 6, "max_new_tokens": 20}
    alone = three.ids(**wish)
    fired = fail_once(
        three.batch("storyteller"),
        lambda b: len(b.sequences) == 3 and len(b.sequences[0].ids) > 95,
        torch.AcceleratorError(FAULT),
    )
    run = finished(three.submit(**wish))
    assert fired
    assert ids_of(run) == alone


def test_a_run_counts_each_restart_once_however_many_samples_it_has(three):
    fired = fail_once(three.batch(), lambda b: len(b.sequences) == 3, torch.AcceleratorError(FAULT))
    run = three.submit(samples=6, max_new_tokens=30)
    finished(run)
    assert fired
    assert run.restarts == 1


def test_a_fault_while_rows_take_their_seats_loses_none_of_them(eight):
    """A device tells of a fault at any later call; here it does when the second of four rows is given its keys."""
    wish = {"text": "one two", "samples": 4, "max_new_tokens": 20}
    alone = eight.ids(**wish)
    other = eight.submit(max_new_tokens=60)
    whole = eight.ids(max_new_tokens=60)
    finished(other)
    cache, calls = eight.batch().cache, []
    real = cache.join

    def join(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise torch.AcceleratorError(FAULT)
        return real(*given, **named)

    cache.join = join
    run = finished(eight.submit(**wish))
    assert len(calls) == 2
    assert ids_of(run) == alone
    assert ids_of(other) == whole


def test_texts_that_cannot_be_seated_together_are_seated_one_by_one_and_the_one_at_fault_ends_alone(eight):
    wishes = [{"text": f"{word} old king", "max_new_tokens": 12} for word in ("one", "two", "the")]
    alone = [eight.ids(**wish) for wish in wishes]
    batch, together = eight.batch(), []
    real = batch.seat

    def seat(prefills):
        together.append(len(prefills))
        if any(prefill.run is runs[1] for prefill in prefills):
            raise RuntimeError("invented by a test")
        real(prefills)

    batch.seat, runs = seat, []
    with at_once(eight):
        runs += [eight.submit(**wish) for wish in wishes]
    for run in runs:
        until(lambda run=run: run.done, what="the end of a run")
    assert together == [3, 1, 1, 1]
    assert [run.samples[0].finish_reason for run in runs] == ["length", "error", "length"]
    assert [ids_of(runs[0]), ids_of(runs[2])] == [alone[0], alone[2]]


@pytest.mark.parametrize("faults", [1, 3])
def test_a_device_that_fails_up_to_three_times_in_a_row_is_restarted(eight, monkeypatch, faults):
    alone = eight.ids(max_new_tokens=12)
    left = [torch.AcceleratorError(FAULT)] * faults
    real = Batch.step
    monkeypatch.setattr(Batch, "step", lambda batch: real(batch) if not left else raise_(left.pop()))
    run = finished(eight.submit(max_new_tokens=12))
    assert run.samples[0].error is None
    assert ids_of(run) == alone
    assert run.restarts == faults


def raise_(error):
    raise error


def test_a_device_that_fails_for_good_ends_its_runs_with_a_reason_and_the_engine_says_so(eight, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "step", lambda batch: raise_(torch.AcceleratorError(FAULT)))
        run = finished(eight.submit(samples=3, max_new_tokens=12))
        assert [sample.finish_reason for sample in run.samples] == ["error"] * 3
        assert "illegal memory access" in str(run.samples[0].error)
        assert "device failed" in until(eight.engine.ready, what="the problem")
    assert eight.write(max_new_tokens=3).samples[0].finish_reason == "length"
    assert eight.engine.ready() is None


def test_a_model_that_fails_for_good_ends_its_runs_also_beside_one_that_works(models):
    with running(models) as writer:
        writer.write(model="other", max_new_tokens=1)
        good = writer.submit(max_new_tokens=LONG)
        until_written(good, 2)
        real = Batch.step

        def step(batch):
            if any(sequence.request.folder.name == "other" for sequence in batch.admitted()):
                raise torch.AcceleratorError(FAULT)
            real(batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Batch, "step", step)
            bad = writer.submit(model="other", max_new_tokens=5)
            until(lambda: bad.done, what="the end of a run on a device that always fails")
            assert bad.samples[0].finish_reason == "error"
        stop(writer, good)
        assert good.samples[0].finish_reason == "cancelled"


def test_weights_that_are_gone_when_they_are_wanted_again_end_the_runs_with_that_reason(tmp_path, models):
    import shutil

    shutil.copytree(models / "tiny", tmp_path / "tiny")
    with running(tmp_path) as writer:
        run = writer.submit(max_new_tokens=LONG)
        until_written(run, 3)
        (tmp_path / "tiny" / "model.safetensors").unlink()
        fail_once(writer.batch(), lambda b: True, torch.AcceleratorError(FAULT))
        finished(run)
        assert run.samples[0].finish_reason == "error"
        assert "model.safetensors" in str(run.samples[0].error)


# An exception that is nobody's device


BAD = 250  # a token that the broken model of these tests cannot read five times at once


def break_on_bad(batch):
    real = batch.model.hidden

    def hidden(pieces):
        if sum(int((ids == BAD).sum()) for _, ids, _ in pieces) >= 5:
            raise ValueError("no such word")
        return real(pieces)

    batch.model.hidden = hidden


def test_a_prompt_that_cannot_be_read_ends_its_own_run_and_not_those_that_write(eight):
    other, whole = eight.submit(max_new_tokens=300, seed=5), None
    until_written(other, 5)
    break_on_bad(eight.batch())
    bad = finished(eight.submit(ids=[BAD] * 6))
    assert [sample.finish_reason for sample in bad.samples] == ["error"]
    assert "no such word" in str(bad.samples[0].error)
    whole = finished(other)
    del eight.batch().model.hidden
    assert ids_of(whole) == eight.ids(max_new_tokens=300, seed=5)


def test_a_prompt_that_cannot_be_read_does_not_end_one_that_is_read_beside_it(eight):
    break_on_bad(eight.batch())
    with at_once(eight):
        good = eight.submit("one two", max_new_tokens=5)
        bad = eight.submit(ids=[BAD] * 6)
        fine = eight.submit("the king", max_new_tokens=5)
    for run in (good, bad, fine):
        finished(run)
    assert bad.samples[0].finish_reason == "error"
    assert [good.samples[0].error, fine.samples[0].error] == [None, None]


# Memory


def old_and_new(writer):
    """An old run that is past its first 64 positions, and a new one: they lie in different buckets."""
    old = writer.submit("the old king", "storyteller", max_new_tokens=LONG, seed=2)
    until_written(old, 80)
    new = writer.submit("the fox", "storyteller", max_new_tokens=LONG, seed=3)
    until_written(new, 5)
    return old, new


def goes_on(run, tokens=10) -> bool:
    until_written(run, len(run.samples[0]) + tokens)
    return True


def test_memory_that_runs_out_costs_the_remembered_texts_first(models):
    with running(models, "storyteller", prefix_memory=64) as writer:
        writer.write("the old king " * 20, "storyteller", max_new_tokens=3)
        old, new = old_and_new(writer)
        batch = writer.batch("storyteller")
        assert len(batch.prefix_cache)
        fired = fail_once(batch, lambda b: True, MemoryError("no room"))
        until(lambda: fired, what="memory running out")
        assert goes_on(old)
        assert goes_on(new)
        assert len(batch.prefix_cache) == 0
        stop(writer, old, new)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        torch.OutOfMemoryError("no room"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["python", "torch", "allocator"],
)
def test_memory_that_runs_out_then_ends_the_newest_run_alone(eight, error):
    eight.write(model="storyteller", max_new_tokens=1)
    old, new = old_and_new(eight)
    fired = fail_once(eight.batch("storyteller"), lambda b: True, error)
    finished(new)
    assert fired
    assert new.samples[0].finish_reason == "error"
    assert goes_on(old)
    stop(eight, old)


def test_memory_that_runs_out_while_a_row_moves_to_a_longer_shelf_ends_one_run_at_the_most(eight, monkeypatch):
    old = eight.submit("the old king", "storyteller", max_new_tokens=400, seed=2)
    until_written(old, 5)
    real, calls = Bucket.join, []

    def join(bucket, slot, kv):
        if bucket.room > 64 and not calls:
            calls.append(1)
            raise MemoryError("no room")
        return real(bucket, slot, kv)

    monkeypatch.setattr(Bucket, "join", join)
    new = eight.submit("the fox", "storyteller", max_new_tokens=400, seed=3)
    until(lambda: calls, what="a row that moves")
    monkeypatch.undo()
    until_written(old, 150)
    assert new.done is False or new.samples[0].finish_reason == "error"
    stop(eight, old, new)


def test_memory_that_runs_out_while_rows_are_seated_costs_nobody_else_a_token(eight):
    whole = eight.ids(max_new_tokens=300, seed=7)[0]
    old = eight.submit(max_new_tokens=300, seed=7)
    until_written(old, 3)
    cache, calls = eight.batch().cache, []
    real = cache.join

    def join(*given, **named):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("no room")
        return real(*given, **named)

    cache.join = join
    new = finished(eight.submit(samples=3, max_new_tokens=200))
    assert [sample.finish_reason for sample in new.samples] == ["error"] * 3
    finished(old)
    assert old.samples[0].error is None
    assert ids_of(old) == [whole]
    until(lambda: not eight.batch().cache.slots, what="an empty cache")


def test_memory_that_runs_out_while_a_text_is_remembered_ends_no_run(models):
    with running(models, "storyteller", prefix_memory=64) as writer:
        old = writer.submit("the old king", "storyteller", max_new_tokens=400, seed=2)
        until_written(old, 5)
        cache, calls = writer.batch("storyteller").cache, []
        real = cache.prefix_of

        def prefix_of(slot):
            calls.append(1)
            if len(calls) == 1:
                raise MemoryError("no room")
            return real(slot)

        cache.prefix_of = prefix_of
        new = finished(writer.submit("the fox", "storyteller", max_new_tokens=20))
        until(lambda: calls, what="a text to remember")
        assert new.samples[0].error is None
        assert goes_on(old)
        stop(writer, old)


def test_memory_that_runs_out_while_a_window_restarts_ends_one_run_at_the_most(eight, monkeypatch):
    import generate.transformer.kv_cache

    old = eight.submit(max_new_tokens=300, seed=7)
    until_written(old, 5)
    new = eight.submit(max_new_tokens=300, seed=8)
    until_written(new, 5)
    real, calls = generate.transformer.kv_cache.Prefix, []

    class Short(real):
        @cached_property
        def kv(self):
            calls.append(1)
            if len(calls) == 1:
                raise MemoryError("no room")
            return real.kv.func(self)

    monkeypatch.setattr(generate.transformer.kv_cache, "Prefix", Short)
    finished(old)
    finished(new)
    monkeypatch.undo()
    assert calls
    assert [old.samples[0].finish_reason, new.samples[0].finish_reason].count("error") <= 1
