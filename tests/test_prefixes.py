"""Texts that were read before are not read again, and nobody can tell from what comes out."""

import random

import numpy as np
import pytest
import torch
from conftest import finished, make_model
from engines import ids_of, running
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from generate import Config, unknown_records
from generate.scheduling.prefix_cache import LEAST_LENGTH, MOST_TEXTS, PrefixCache
from generate.transformer.kv_cache import kv_bytes
from generate.transformer.prefix import Prefix

CONFIG = Config(vocab_size=300, n_positions=64, n_embd=8, n_layer=2, n_head=2, n_inner=32)
CPU, POSITION = torch.device("cpu"), kv_bytes(CONFIG, 1, torch.float32)


def text(ids) -> Prefix:
    """A text that was read: each position's keys and values are its token."""
    prefix = Prefix(CONFIG, len(ids), CPU, torch.float32)
    prefix.kv[:] = torch.tensor(ids, dtype=torch.float32)[:, None]
    prefix.length = len(ids)
    return prefix


def records(ids):
    """Records in which each token's logprob is minus its id; the first has none."""
    found = unknown_records(ids, 300)
    found["logprob"][1:] = -found["id"][1:].astype(float)
    return found


def memory(positions=1000) -> PrefixCache:
    return PrefixCache(positions * POSITION, POSITION)


def keep(prefixes, ids, with_records=True):
    prefixes.keep(list(ids), text(ids), records(ids) if with_records else None)


def known(prefixes, ids, with_records=False) -> int:
    """How many positions of a text are known; what they hold is checked on the way."""
    prefix = Prefix(CONFIG, len(ids), CPU, torch.float32)
    found = prefixes.fill(prefix, list(ids), with_records)
    assert prefix.kv[0, 1, 1, : prefix.length, 2].tolist() == list(ids)[: prefix.length]
    assert prefix.kv[1, 0, 0, : prefix.length, 0].tolist() == list(ids)[: prefix.length]
    if found is not None:
        assert found["id"].tolist() == list(ids)[: len(found)]
        assert found["logprob"].tolist()[1:] == [-i for i in ids[1 : len(found)]]
    assert (found is not None) == (with_records and prefix.length > 0)
    return prefix.length


def test_nothing_is_known_at_first():
    assert known(memory(), range(20)) == 0


def test_the_longest_beginning_is_found_and_the_last_token_is_left_to_be_read():
    some = memory()
    keep(some, range(20))
    keep(some, [*range(10), *range(100, 130)])
    assert known(some, [*range(20), 7, 7]) == 20
    assert known(some, [*range(10), *range(100, 120), 7]) == 30
    assert known(some, range(20)) == 19
    assert known(some, [*range(15), 7, 7]) == 15
    assert known(some, range(100, 130)) == 0  # only beginnings count


def test_a_short_beginning_is_read_again():
    some = memory()
    keep(some, range(20))
    assert known(some, [*range(LEAST_LENGTH - 1), *range(50, 80)]) == 0
    assert known(some, [*range(LEAST_LENGTH), *range(50, 80)]) == LEAST_LENGTH


def test_what_the_model_thought_of_each_token_is_known_or_will_be_read():
    """That of a token comes from reading the one before it; so that one is read again where it is not known."""
    some = memory()
    keep(some, range(20))
    for ids in (range(15), range(20), range(21), range(30), [*range(15), *range(50, 60)]):
        prefix = Prefix(CONFIG, len(ids), CPU, torch.float32)
        found = some.fill(prefix, list(ids), True)
        assert found["id"].tolist() == list(ids)[: len(found)]
        assert 10 < prefix.length < len(found) + 1, ids  # records from prefix.length + 1 on come with the reading


def test_who_wants_records_is_not_helped_by_a_text_without_them():
    some = memory()
    keep(some, range(30), with_records=False)
    keep(some, range(12))
    assert known(some, range(30), with_records=True) in (11, 12)
    assert known(some, range(30)) == 29


def test_a_longer_text_takes_the_place_of_those_it_begins_with():
    some = memory()
    keep(some, range(10))
    keep(some, range(20))
    keep(some, range(30))
    assert len(some) == 1
    assert some.nbytes == 30 * POSITION


def test_a_text_without_records_does_not_take_the_place_of_one_with_them():
    some = memory()
    keep(some, range(10))
    keep(some, range(20), with_records=False)
    assert len(some) == 2
    assert known(some, range(30), with_records=True) in (9, 10)


def test_the_text_used_least_recently_goes_first():
    some = memory(100)
    for start in (0, 30, 60, 90):
        keep(some, range(start, start + 25))
    assert known(some, range(0, 25)) == 24  # used again, so that another is the oldest
    keep(some, range(200, 225))
    assert [known(some, range(start, start + 25)) for start in (0, 30, 60, 90, 200)] == [24, 0, 24, 24, 24]


def test_a_text_too_long_to_be_kept_drives_out_nothing():
    some = memory(100)
    keep(some, range(20))
    keep(some, range(90))
    assert known(some, range(90)) == 20


def test_at_most_so_many_texts_are_kept():
    some = memory(10**6)
    for number in range(MOST_TEXTS + 10):
        keep(some, [number, *range(20)])
    assert len(some) == MOST_TEXTS


def test_without_memory_nothing_is_kept():
    some = memory(0)
    keep(some, range(20))
    assert len(some) == some.nbytes == 0


def test_dropping_says_whether_there_was_anything():
    some = memory()
    assert not some.drop()
    keep(some, range(20))
    assert some.drop()
    assert (len(some), some.nbytes) == (0, 0)
    assert known(some, range(20)) == 0


words = st.lists(st.integers(0, 1), min_size=1, max_size=40)


@settings(max_examples=60)
@given(st.lists(st.tuples(words, st.booleans()), max_size=40), words, st.booleans())
def test_memory_is_bounded_and_counted_and_what_is_found_is_right(texts, wanted, with_records):
    some = memory(120)
    for ids, also in texts:
        keep(some, ids, also)
        assert some.nbytes <= 120 * POSITION
        assert some.nbytes == sum(kept.nbytes for kept in some._texts.values())
    assert known(some, wanted, with_records) < len(wanted)


# In the engine


@pytest.fixture(scope="module")
def clever(models):
    with running(models, prefix_memory=4) as writer:
        yield writer


@pytest.fixture(params=["tiny", "storyteller"])
def model(request) -> str:
    return request.param


def agree(one, other) -> None:
    """Two runs say the same: ids to the letter, numbers within 1e-4, and nothing where the other has nothing."""
    pairs = [(one.prompt, other.prompt)]
    pairs += [(a.read(), b.read()) for a, b in zip(one.samples, other.samples, strict=True)]
    for a, b in pairs:
        assert a["id"].tolist() == b["id"].tolist()
        assert a["rank"].tolist() == b["rank"].tolist()
        assert a["alt_ids"].tolist() == b["alt_ids"].tolist()
        assert a["cut"].tolist() == b["cut"].tolist()
        for name in ("logprob", "entropy", "log_z", "alt_logprobs", "sampled_logprob", "filter_norm"):
            np.testing.assert_allclose(a[name], b[name], atol=1e-4, rtol=0, err_msg=name)


def spared(writer, model) -> list[int]:
    """From now on: how many tokens of each text were known when it came."""
    prefixes, lengths = writer.batch(model).prefix_cache, []
    real = prefixes.fill

    def fill(prefix, ids, with_records):
        found = real(prefix, ids, with_records)
        lengths.append(prefix.length)
        return found

    prefixes.fill = fill
    return lengths


def test_what_is_forgotten_is_forgotten_with_what_a_cancelled_run_had_written(models):
    with running(models, prefix_memory=4) as writer:
        writer.write("the old king said to the young fox", max_new_tokens=20)
        remembered = writer.batch().prefix_cache
        until(lambda: len(remembered))
        run = writer.submit("one two three one two three", max_new_tokens=4096)
        until(lambda: len(run.samples[0]) > 20)
        writer.engine.cancel(run)
        writer.engine.forget()
        until(lambda: run.done and not len(remembered))
        assert remembered.nbytes == 0
        writer.write("the sea", max_new_tokens=20)
        until(lambda: len(remembered) == 1, what="remembering what comes after it")


def test_the_same_prompt_again_says_the_same(clever, forgetful, model):
    wish = {"text": "The old king said to the young fox that", "model": model, "max_new_tokens": 20}
    right = forgetful.write(**wish)
    first = clever.write(**wish)
    lengths = spared(clever, model)
    again = clever.write(**wish)
    del clever.batch(model).prefix_cache.fill
    assert lengths[0] == len(again.prompt) - 1
    agree(first, right)
    agree(again, right)


def test_a_continuation_says_what_it_says_without_memory(clever, forgetful, model):
    wish = {"text": "The young fox said to the old king", "model": model, "max_new_tokens": 30, "seed": 6}
    parent = clever.write(**wish)
    until(lambda: not clever.batch(model).busy, what="rest")
    ids = [*parent.prompt["id"].tolist(), *ids_of(parent)[0]]
    lengths = spared(clever, model)
    child = clever.write(ids=ids, model=model, max_new_tokens=15, seed=6)
    del clever.batch(model).prefix_cache.fill
    assert lengths[0] == len(ids) - 2  # the last but one is read again for what it says of the last
    agree(child, forgetful.write(ids=ids, model=model, max_new_tokens=15, seed=6))


def test_a_continuation_past_the_window_says_what_it_says_without_memory(clever, forgetful):
    parent = clever.write("The old king", max_new_tokens=100, seed=8)
    ids = [*parent.prompt["id"].tolist(), *ids_of(parent)[0]]
    for cut in (40, 63, 64, 65, 66, 96, 97, len(ids)):
        wish = {"ids": ids[:cut], "max_new_tokens": 40, "seed": 8}
        agree(clever.write(**wish), forgetful.write(**wish))


def test_prompts_that_share_a_long_beginning_say_what_they_say_without_memory(clever, forgetful):
    """Random ones from a few stems: also those whose first own token is the very last."""
    dice = random.Random(5)
    stems = [[dice.randrange(1, 299) for _ in range(50)] for _ in range(2)]
    for _ in range(20):
        stem = dice.choice(stems)[: dice.choice([8, 9, 20, 40, 50])]
        ids = stem + [dice.randrange(1, 299) for _ in range(dice.choice([0, 1, 2, 9]))]
        wish = {"ids": ids, "max_new_tokens": dice.choice([1, 5, 40]), "seed": 3, "samples": dice.choice([1, 5])}
        agree(clever.write(**wish), forgetful.write(**wish))
        prefixes = clever.batch().prefix_cache
        assert prefixes.nbytes <= prefixes.limit


def test_runs_at_the_same_time_with_the_same_prompt_say_what_they_say_without_memory(clever, forgetful):
    wishes = [{"text": "two three one two three", "max_new_tokens": 90, "seed": seed} for seed in range(6)]
    runs = [clever.submit(**wish) for wish in wishes]
    for run, wish in zip(runs, wishes, strict=True):
        agree(finished(run), forgetful.write(**wish))


def test_memory_stays_within_its_bound_at_any_moment(tmp_path):
    make_model(tmp_path / "wide", seed=4, n_embd=256, n_positions=256)
    with running(tmp_path, "wide", prefix_memory=1) as writer:
        prefixes, dice = writer.batch("wide").prefix_cache, random.Random(6)
        assert prefixes.limit == 1 << 20
        kept = 0
        for number in range(12):
            ids = [dice.randrange(1, 299) for _ in range(dice.choice([20, 60, 120, 250]))]
            writer.write(ids=ids, model="wide", max_new_tokens=dice.choice([1, 30]), seed=number)
            assert prefixes.nbytes <= prefixes.limit
            kept = max(kept, len(prefixes))
        assert kept > 1


def test_one_who_takes_no_statistics_leaves_nothing_wrong_for_one_who_does(clever, forgetful):
    from generate import Request, find_model, parse_sampling

    folder = find_model(clever.engine.models, "tiny")
    ids = tuple(folder.encode_prompt("the sea was far away from the young king"))
    sampling = parse_sampling({"seed": 1, "max_new_tokens": 20, "top_k": 0, "temperature": 1})
    request = Request(folder, sampling, statistics=False)
    quiet = finished(clever.engine.submit(request, request.new_log(ids)))
    right = forgetful.write(ids=ids)
    assert ids_of(quiet) == ids_of(right)
    agree(clever.write(ids=ids), right)
