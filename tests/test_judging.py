"""What the model thought of a prompt is found out after the first token, and is known before a run ends."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import finished
from engines import ids_of, running, stop, until_written, watch
from waiting import until

from generate import Request, RunLog, find_model, known, parse_sampling, unknown_records
from generate.scheduling.forward import Passed
from generate.scheduling.judging import Judging, unjudged
from generate.scheduling.pace import MOST_TOKENS


def words(length, seed=1) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 299) for _ in range(length)]


@pytest.fixture(scope="module")
def forgetful(models):
    """An engine that remembers no text."""
    with running(models, prefix_memory=0) as writer:
        yield writer


@pytest.fixture
def fresh(models):
    """An engine of its own, which a test may break."""
    with running(models) as writer:
        yield writer


def agree(found, right):
    assert known(found)[1:].all()
    for name in ("logprob", "entropy", "log_z"):
        assert found[name][1:] == pytest.approx(right[name][1:], abs=1e-5)


def hold_back(monkeypatch, writer):
    """Nothing is judged but what a run needs to end."""
    monkeypatch.setattr(writer.batch().pace, "may_judge", lambda rows: 0)


def test_the_first_token_is_there_before_its_prompt_is_judged(forgetful):
    right = finished(forgetful.submit(ids=words(50), max_new_tokens=0)).prompt
    moments = []
    batch = forgetful.batch()
    real = batch.step
    watch(batch, lambda batch: moments.append([(len(s.log), s.run.prompt_known) for s in batch.sequences]))
    run = finished(forgetful.submit(ids=words(50), max_new_tokens=12))
    batch.step = real
    written = [moment[0] for moment in moments if moment]
    assert written[0] == (1, False), "one token, and nothing of the prompt"
    assert written[-1] == (11, True)
    agree(run.prompt, right)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_run_that_ends_at_once_ends_with_all_that_is_known(forgetful, monkeypatch, count):
    hold_back(monkeypatch, forgetful)
    right = finished(forgetful.submit(ids=words(50), max_new_tokens=0)).prompt
    run = finished(forgetful.submit(ids=words(50), max_new_tokens=count, samples=3))
    assert run.prompt_known
    agree(run.prompt, right)


def test_a_run_that_is_stopped_tells_what_was_thought_of_its_prompt(forgetful, monkeypatch):
    hold_back(monkeypatch, forgetful)
    run = forgetful.submit(ids=words(50), max_new_tokens=4096)
    until_written(run, 3)
    assert not run.prompt_known
    stop(forgetful, run)
    assert known(run.prompt)[1:].all()
    assert forgetful.batch().judging.tokens == 0


def test_what_waits_of_a_run_that_was_given_up_unread_is_forgotten(forgetful, monkeypatch):
    hold_back(monkeypatch, forgetful)
    other = forgetful.submit(max_new_tokens=4096)
    until_written(other, 1)
    budgets = iter([20])
    monkeypatch.setattr(forgetful.batch().pace, "budget", lambda rows: next(budgets, 0))
    run = forgetful.submit(ids=words(50), max_new_tokens=4096)
    until(lambda: forgetful.batch().judging.tokens >= 20, what="a prompt that is read in part")
    stop(forgetful, run)
    until(lambda: run not in forgetful.batch().judging.runs, what="the end of the step")
    assert not len(run.samples[0])
    stop(forgetful, other)


def test_a_text_is_remembered_once_it_is_judged_and_lends_what_was_thought_of_it(fresh, monkeypatch):
    with monkeypatch.context() as patch:
        hold_back(patch, fresh)
        first = fresh.submit(ids=words(50), max_new_tokens=4096)
        until_written(first, 3)
        second = finished(fresh.submit(ids=words(50), max_new_tokens=3))
        agree(second.prompt, finished(fresh.submit(ids=words(50), max_new_tokens=0)).prompt)
    until(lambda: first.prompt_known, what="the judging")
    read = []
    real = fresh.batch().model.hidden
    monkeypatch.setattr(fresh.batch().model, "hidden", lambda pieces: (read.append(pieces), real(pieces))[1])
    stop(fresh, first)
    third = finished(fresh.submit(ids=words(50), max_new_tokens=1))
    agree(third.prompt, first.prompt)
    assert max(len(ids) for pieces in read for _, ids, _ in pieces) < 8, "the rest was remembered"


def test_where_judging_fails_the_run_is_written_and_its_numbers_stay_unknown(fresh, monkeypatch):
    right = fresh.ids(ids=words(50), max_new_tokens=20)
    fresh.batch().prefix_cache.drop()
    monkeypatch.setattr(
        "generate.scheduling.judging.prompt_records", lambda *given: (_ for _ in ()).throw(ValueError("no such number"))
    )
    run = finished(fresh.submit(ids=words(50), max_new_tokens=20))
    assert ids_of(run) == right
    assert run.samples[0].error is None
    assert run.prompt_known
    assert not known(run.prompt).any()
    assert len(fresh.batch().prefix_cache) == 0 or fresh.batch().prefix_cache.drop()


def test_where_memory_runs_out_in_judging_the_remembered_texts_go_first(fresh, monkeypatch):
    fresh.ids(ids=words(40, 2), max_new_tokens=1)
    assert len(fresh.batch().prefix_cache)
    real, failed = fresh.batch().model.logits, []

    def logits(hidden):
        if len(hidden) > 3 and not failed:
            failed.append(len(fresh.batch().prefix_cache))
            raise MemoryError("no room")
        return real(hidden)

    monkeypatch.setattr(fresh.batch().model, "logits", logits)
    run = fresh.submit(ids=words(50), max_new_tokens=4096)
    until(lambda: run.prompt_known, what="the judging")
    assert failed[0]
    assert known(run.prompt)[1:].all()
    stop(fresh, run)


def test_after_a_fault_of_the_device_prompts_are_judged_that_were_not(models):
    with running(models, prefix_memory=0) as writer:
        right = finished(writer.submit(ids=words(50), max_new_tokens=30))
        writer.batch().pace.may_judge = lambda rows: 0
        real, calls = writer.batch().model.hidden, []

        def hidden(pieces):
            calls.append(pieces)
            if len(calls) == 6:
                raise torch.AcceleratorError("CUDA error: an illegal memory access (invented by a test)")
            return real(pieces)

        writer.batch().model.hidden = hidden
        run = finished(writer.submit(ids=words(50), max_new_tokens=30, samples=2))
        assert run.restarts == 1
        assert ids_of(run)[0] == ids_of(right)[0]
        agree(run.prompt, right.prompt)


@pytest.mark.parametrize(
    ("length", "told"), [(40, 39), (62, 0), (100, 35)], ids=["in the window", "up to its end", "past it"]
)
def test_a_run_that_was_cut_before_its_prompt_was_judged_is_judged_when_it_goes_on(models, forgetful, length, told):
    """Where its window has moved on since, nobody knows any more: its tokens would be seen in another context."""
    folder, wish = find_model(models, "tiny"), {"max_new_tokens": 20, "seed": 4, "top_k": 0, "temperature": 1}
    whole = finished(forgetful.submit(ids=words(length), **wish))
    cut = RunLog(unknown_records(words(length), folder.config.vocab_size), 1)
    cut.samples[0].append(whole.samples[0].read(0, 7), whole.samples[0].size(folder.tokenizer.vocabulary))
    forgetful.engine.submit(Request(folder, parse_sampling(wish)), cut)
    finished(cut)
    assert ids_of(cut) == ids_of(whole)
    there = known(cut.prompt)
    assert (there <= known(whole.prompt)).all()
    assert there.sum() == told
    for name in ("logprob", "entropy"):
        assert cut.prompt[name][there] == pytest.approx(whole.prompt[name][there], abs=1e-4)


def test_while_many_prompts_come_what_waits_stays_bounded(models):
    """Twenty prompts of 60 tokens, read as they come: judging takes its turn before more than a step's tokens wait."""
    with running(models, prefix_memory=0, max_rows=40) as writer:
        seen = []
        watch(writer.batch(), lambda batch: seen.append(batch.judging.tokens))
        runs = [writer.submit(ids=words(60, n), max_new_tokens=40, seed=n, samples=1) for n in range(60)]
        for run in runs:
            assert known(finished(run).prompt)[1:].all()
        assert 0 < max(seen) < 2 * MOST_TOKENS


def test_tokens_are_judged_in_the_order_in_which_they_were_read_and_split_where_a_step_ends():
    told, ends = [], []
    run = RunLog(unknown_records(range(9), 300), 1)
    prefill = SimpleNamespace(
        run=run,
        ids=list(range(9)),
        shown=list(range(9)),
        next=0,
        first=1,
        records=unknown_records(range(9), 300),
        judged=lambda count: range(1, 9),
        note=lambda place, found: told.append((place, found["id"].tolist())),
    )
    hidden = torch.arange(9.0)[:, None].expand(9, 300)
    judging = Judging(SimpleNamespace(logits=lambda hidden: hidden), lambda prefill: ends.append(len(told)))
    judging.put_off(unjudged([(prefill, 9)], Passed(0, hidden, np.array([0, 9]), hidden[:0], [], [])))
    assert judging.tokens == 8
    judging.go_on(3)
    judging.go_on(2)
    assert not ends
    judging.go_on(100)
    assert told == [(1, [1, 2, 3]), (4, [4, 5]), (6, [6, 7, 8])]
    assert ends == [3]
    assert judging.tokens == 0
