"""int8: a row's numbers are its own, to the last bit, and close to those of float32."""

import gc
import random
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import finished
from engines import ids_of, running
from waiting import until

from generate import find_model
from generate.compiled.tiles import INPUT
from generate.transformer.int8 import fused, packing, rowwise
from generate.transformer.int8.model import LOWEST
from generate.transformer.int8.team import Ways
from generate.transformer.linear import ACTIVATIONS
from generate.transformer.model import load_model
from generate.transformer.precision import LEAST_SAME, MOST_KL, effect

CPU = torch.device("cpu")
SIZES = [1, 2, 3, 7, 8, 16, 31, 32, 33, 34, 40, 300]


def dice(*shape, seed=0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def product(rows=64, columns=96, lowest=None, bias=True, seed=0) -> Callable[[torch.Tensor], torch.Tensor]:
    """One product as the pass does it: each row rounded by itself, then all multiplied."""
    linear = packing.empty_linear(1, rows, columns)
    weight = (dice(rows, columns, seed=seed) / rows**0.5).numpy()
    packing.fill_linear(linear, 0, weight, dice(columns, seed=seed + 1).numpy() if bias else None, lowest)

    def multiply(x: torch.Tensor) -> torch.Tensor:
        whole, size = np.zeros((len(x), packing.round_up(rows, 4)), INPUT), np.empty(len(x), np.float32)
        for i, row in enumerate(x.numpy()):
            into = whole[i, :rows]
            size[i] = (
                rowwise.quantise(row, into) if lowest is None else rowwise.quantise_above(row, np.float32(lowest), into)
            )
        out = np.empty((len(x), linear.scale.shape[1]), np.float32)
        fused.multiply(whole, size, linear, 0, out, 0, 1)
        return torch.from_numpy(out)[:, :columns]

    return multiply


@pytest.fixture(params=[None, "gelu_new"], ids=["any sign", "after a gelu"])
def lowest(request):
    """What its inputs are never less than, as far as that is known."""
    return LOWEST[request.param] if request.param else None


def inputs(count, lowest, seed=0, width=64) -> torch.Tensor:
    x = dice(count, width, seed=seed + 2)
    return x if lowest is None else torch.nn.functional.gelu(x, approximate="tanh")


@pytest.mark.parametrize("count", SIZES)
def test_a_row_is_bit_for_bit_the_same_alone_and_among_others(count, lowest):
    """One of the others holds a 1000, which would coarsen all of them if they shared a scale."""
    linear, x = product(lowest=lowest), inputs(count, lowest)
    alone = torch.cat([linear(row[None].clone()) for row in x])
    x[count // 2, 5] = 1000
    together = linear(x.clone())
    others = [row for row in range(count) if row != count // 2]
    assert torch.equal(together[others], alone[others])
    assert torch.equal(together[count // 2], linear(x[count // 2][None].clone())[0])


@pytest.mark.parametrize("count", [1, 5, 32, 33, 100])
def test_a_row_of_zeros_gives_the_bias(count):
    linear = product()
    assert torch.equal(linear(torch.zeros(count, 64)), dice(96, seed=1).expand(count, -1))


@pytest.mark.parametrize("count", [2, 5, 32, 33, 100])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_out_of_range_spoils_itself_alone(count, bad, lowest):
    linear, x = product(lowest=lowest), inputs(count, lowest)
    right = linear(x.clone())
    x[1, 3] = bad
    found = linear(x.clone())
    others = [0, *range(2, count)]
    assert torch.equal(found[others], right[others])
    if bad == bad and bad < 0 and lowest is not None:
        return  # nothing is less than `lowest`
    assert not found[1].isfinite().all()


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-3, 1e30])
def test_very_small_and_very_large_rows_are_finite_and_right(size):
    linear, x = product(bias=False), inputs(40, None) * size
    found = linear(x.clone())
    assert found.isfinite().all()
    if size > 1e-38:
        right = x.double() @ (dice(64, 96).double() / 8)
        assert (found - right).norm() < 0.02 * right.norm()


@pytest.mark.parametrize("count", [1, 20, 100])
def test_the_product_is_within_two_percent_of_the_exact_one(count, lowest):
    for seed in range(5):
        linear, x = product(256, 512, lowest=lowest, seed=seed), inputs(count, lowest, seed, 256)
        right = x @ (dice(256, 512, seed=seed) / 16) + dice(512, seed=seed + 1)
        assert (linear(x.clone()) - right).norm() < 0.02 * right.norm()


@pytest.mark.parametrize("activation", [a for a, low in LOWEST.items() if low is not None])
def test_no_activation_gives_less_than_what_is_taken_for_its_lowest(activation):
    assert ACTIVATIONS[activation](torch.linspace(-20, 5, 500_001)).min() >= LOWEST[activation]


# The engine in int8


@pytest.mark.parametrize("model", ["tiny", "storyteller"])
def test_the_same_seed_writes_the_same_alone_and_among_strangers(models, model):
    chance, wishes = random.Random(7), []
    for seed in range(10):
        text = "the old king said " * chance.randint(1, 3)
        wishes.append(
            {"text": text, "model": model, "max_new_tokens": 30, "seed": seed, "top_k": chance.choice([0, 40])}
        )
    with running(models, model, precision="int8", prefix_memory=0) as writer:
        alone = [writer.ids(**wish) for wish in wishes]
        runs = [writer.submit(**wish) for wish in wishes]
        assert [ids_of(finished(run)) for run in runs] == alone
        assert {run.precision for run in runs} == {"int8"}


def logits(model, ids) -> torch.Tensor:
    with torch.inference_mode():
        prefix = model.new_cache(1, 0).new_prefix(len(ids))
        return model.logits(model.hidden([(prefix, torch.tensor(ids), torch.arange(len(ids)))]))


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.1), ("int8", 0.2)])
def test_logits_in_fewer_bits_are_near_those_of_float32(models, precision, most):
    folder = find_model(models, "storyteller")
    ids = folder.encode_prompt("Once upon a time there was a king who had seven sons.")
    right, found = (logits(load_model(folder, CPU, name), ids) for name in ("float32", precision))
    assert found.dtype == torch.float32
    assert (found - right).abs().mean() < most


def test_a_processor_that_packs_no_bfloat16_writes_in_it_all_the_same(models, monkeypatch):
    """oneDNN refuses to lay it out with AVX2 alone: "bf16 path needs the cpu support avx_ne_convert or avx512bw ..."."""

    def refusing(*_):
        raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx_ne_convert or ...")

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", refusing)
    folder = find_model(models, "tiny")
    model = load_model(folder, CPU, "bfloat16")
    monkeypatch.undo()
    ids = folder.encode_prompt("Once upon a time")
    assert (logits(model, ids) - logits(load_model(folder, CPU, "float32"), ids)).abs().mean() < 0.1


def test_the_storyteller_is_hardly_changed_by_what_auto_chose(models):
    """Judged again by the same text, with another reader's arithmetic: the mean divergence and the likeliest token."""
    folder = find_model(models, "storyteller")
    with running(models, "storyteller", precision="auto") as writer:
        chosen = writer.write(model="storyteller", max_new_tokens=1).precision
    reference, model = load_model(folder, CPU, "float32"), load_model(folder, CPU, chosen)
    with torch.inference_mode():
        told = effect(folder, reference, model)
    from generate.transformer.precision import TEXT

    ids, kl, same, count = folder.encode_prompt(TEXT.read_text("utf-8"))[:2048], 0.0, 0, 0
    for start in range(0, len(ids), 512):
        p = torch.nn.functional.log_softmax(logits(reference, ids[start : start + 512]).double(), 1)
        q = torch.nn.functional.log_softmax(logits(model, ids[start : start + 512]).double(), 1)
        kl += torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum").item()
        same += int((p.argmax(1) == q.argmax(1)).sum())
        count += len(p)
    assert kl / count < MOST_KL
    assert same / count >= LEAST_SAME
    assert told["kl"] == pytest.approx(kl / count, rel=0.02, abs=1e-6)
    assert told["same"] == pytest.approx(same / count, abs=1e-3)
    assert told["tokens"] == count


# Threads


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_computes_the_same_bits(models, threads):
    """Prompts of several rows and one long one, then steps of one row and of several; it has 4 heads."""
    folder = find_model(models, "storyteller")
    one, several = (load_model(folder, CPU, "int8") for _ in range(2))
    several.use_threads(threads)
    right = computed(one)
    for _ in range(2):  # the first time together, then also alone
        for found, other in zip(right, computed(several), strict=True):
            assert torch.equal(found, other)


def computed(model) -> list[torch.Tensor]:
    chance, results = random.Random(3), []
    cache = model.new_cache(4, 0)
    for length in (1, 2, 9, 130, 200):
        prefix = cache.new_prefix(length)
        ids = torch.tensor([chance.randrange(1, 8192) for _ in range(length)])
        hidden = model.hidden([(prefix, ids, torch.arange(length))])
        prefix.length = length
        if length != 9:
            cache.join(None, prefix)
        results += [hidden, model.logits(hidden)]
    for _ in range(3):
        cache.make_room()
        positions = torch.tensor([slot.position for slot in cache.slots])
        hidden = model.hidden([(cache, torch.arange(7, 7 + len(positions)), positions)])
        cache.end_step()
        results += [hidden, model.logits(hidden)]
    return results


@pytest.mark.parametrize(("alone", "together", "mostly"), [(1, 10, "alone"), (10, 1, "together")])
def test_threads_work_together_as_long_as_that_is_faster(alone, together, mostly):
    ways, chosen = Ways(), []
    for _ in range(300):
        chosen.append(ways.together())
        ways.took(chosen[-1], together if chosen[-1] else alone)
    assert chosen.count(mostly == "together") >= 290
    assert chosen.count(mostly != "together") >= 4, "the other way is tried again"
    for _ in range(300):  # the machine is another one now
        chosen.append(ways.together())
        ways.took(chosen[-1], alone if chosen[-1] else together)
    assert chosen[400:].count(mostly != "together") >= 190


def test_threads_end_with_the_model_that_had_them(models):
    model = load_model(find_model(models, "tiny"), CPU, "int8")
    others = set(threading.enumerate())
    model.use_threads(4)
    assert model.logits(torch.zeros(3, model.config.n_embd)).isfinite().all()
    own = set(threading.enumerate()) - others
    assert len(own) == 3
    del model
    gc.collect()
    until(lambda: not any(thread.is_alive() for thread in own), what="the end of its threads")
