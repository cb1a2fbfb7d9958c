"""Penalties, biases and filters beyond top_k and top_p are what their definitions say, written down here a second time."""

import numpy as np
import pytest
import torch
from test_sampling import keys_of, plain_mix, rows

from generate import Sampling, Vocabulary
from generate.sampling import sampler, ways
from generate.sampling.dry import Stretches
from generate.sampling.noise import coin
from generate.sampling.pressure import Pressed, Pressure, Pressures
from generate.sampling.sampler import FEW, Filters, choose, penalise
from generate.sampling.spread import LANES, LOWEST, floor_of
from generate.sampling.statistics import report_sampled, survey
from generate.sampling.top import top_few_again, top_few_by_torch

TYPES = ["float32", "bfloat16", "float16", "int8"]
NEAR = 1e-5  # in float64, by which a token must miss a limit for float32 to have to agree
LETTERS = Vocabulary([b"\n", b":", *(bytes([97 + n % 26]) * (1 + n // 26) for n in range(298))])


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    """By the CPU's compiled functions, and by the tensors' operations that a GPU has."""
    if request.param == "torch":
        monkeypatch.setattr(sampler, "draw_few_filtered", ways.draw_sorted)
        monkeypatch.setattr(sampler, "top_few_again", lambda scores, *_: top_few_by_torch(scores))
    return request.param


# The definitions


def pressed(logits: np.ndarray, wish: dict, text: list[int]) -> np.ndarray:
    """Logits after penalties and biases, float64 [V]."""
    logits = logits.astype(np.float64)
    for token in set(text):
        logits[token] = logits[token] / wish["penalty"] if logits[token] > 0 else logits[token] * wish["penalty"]
        logits[token] -= wish["frequency"] * text.count(token) + wish["presence"]
    for token, length in longest(text, wish).items():
        logits[token] -= wish["multiplier"] * wish["base"] ** (length - wish["allowed"])
    for token, bias in wish["bias"].items():
        logits[token] += bias
    return logits


def longest(text: list[int], wish: dict) -> dict[int, int]:
    """For each token that would repeat a stretch, of how many tokens it is: every end of the text is looked for."""
    found = {}
    text = text[-wish["range"] :]
    if not wish["multiplier"]:
        return found
    for length in range(wish["allowed"], min(50, len(text) - 1) + 1):
        end = text[-length:]
        starts = [start for start in range(len(text) - length) if text[start : start + length] == end]
        if not starts or wish["breakers"] & set(end):
            break
        found |= {text[n + length]: length for n in starts if text[n + length] not in wish["breakers"]}
    return found


def kept_of(scores: np.ndarray, wish: dict, heads: bool) -> tuple[np.ndarray, float]:
    """Which tokens the filters leave, bool [V], and how near any of them was to a limit."""
    finite = scores[np.isfinite(scores)]
    order = np.lexsort((np.arange(len(scores)), -scores))[: len(finite)]
    near = []
    if wish["sigma"]:
        floor = finite.max() - wish["sigma"] * finite.std()
        near.append(abs(finite - floor).min())
        order = order[scores[order] >= floor]
    scaled = scores / wish["temperature"]
    order = order[: wish["top_k"] or None]
    if wish["top_p"] < 1:
        shares = np.exp(scaled[order] - scaled[order[0]])
        before = np.cumsum(shares / shares.sum())
        near.append(abs(before - wish["top_p"]).min())
        order = order[: 1 + int((before[:-1] < wish["top_p"]).sum())]
    if wish["min_p"]:
        ratios = np.exp(scaled[order] - scaled[order[0]])
        near.append(abs(ratios / wish["min_p"] - 1)[ratios < 1].min(initial=1) if wish["min_p"] < 1 else 1)
        order = order[ratios >= wish["min_p"]]
    if heads:
        shares = np.exp(scaled[order] - scaled[order[0]])
        shares /= shares.sum()
        near.append(abs(shares - wish["threshold"]).min() if wish["threshold"] else 1)
        order = order[max(0, int((shares >= wish["threshold"]).sum()) - 1) :]
    kept = np.zeros(len(scores), bool)
    kept[order] = True
    return kept, min(near, default=1)


def plain_coin(seed, sample, position, token=0xFFFFFFFF):
    """What XTC draws: the noise of an id that no token has, between 0 and 1. Of numbers, or of arrays of uint64."""
    first = plain_mix(plain_mix(plain_mix(seed) ^ (sample + 0x9E3779B9) % 2**32) ^ (position + 0x85EBCA6B) % 2**32)
    return (plain_mix(plain_mix((token + plain_mix(first ^ 0xC2B2AE35)) % 2**32) ^ first) + 0.5) / 2**32


def plain_gumbel(wishes: list[dict], size: int) -> np.ndarray:
    """The noise of every token of every row, float64 [B, V]."""
    seed, position = (np.array([[wish[name]] for wish in wishes], np.uint64) for name in ("seed", "position"))
    return -np.log(-np.log(plain_coin(seed, 0, position, np.arange(size, dtype=np.uint64)))).astype(np.float32)


# Rows drawn at random

OFF = {
    **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "penalty": 1.0, "frequency": 0.0, "presence": 0.0},
    **{"multiplier": 0.0, "base": 1.75, "allowed": 2, "range": 1024, "breakers": {0, 1}, "bias": {}},
    **{"sigma": 0.0, "min_p": 0.0, "chance": 0.0, "threshold": 0.1, "seed": 0, "position": 0},
}
ALONE = (
    *("temperature", "top_k", "top_p", "penalty", "frequency", "presence"),
    *("multiplier base allowed range breakers", "bias", "sigma", "min_p", "chance threshold"),
)


def any_wish(dice: np.random.Generator, size: int) -> dict:
    """Options of all kinds, each off or somewhere within its limits."""
    pick = lambda *values: values[dice.integers(len(values))]  # noqa: E731
    return OFF | {
        "temperature": pick(0.5, 0.8, 1.0, 1.7),
        "top_k": pick(0, 0, 3, 40, FEW, 100),
        "top_p": pick(1.0, 1.0, 0.9, 0.4),
        "penalty": pick(1.0, 1.3, 0.8),
        "frequency": pick(0.0, 0.3, -0.7, 2.0),
        "presence": pick(0.0, 0.5, -1.0),
        "multiplier": pick(0.0, 0.8, 3.0),
        "base": pick(1.0, 1.75, 4.0),
        "allowed": pick(1, 2, 3),
        "range": pick(2, 7, 30, 1024),
        "breakers": {0, 1} if dice.random() < 0.7 else set(),
        "bias": {int(n): float(dice.uniform(-8, 8)) for n in dice.integers(0, size, dice.integers(0, 4))},
        "sigma": pick(0.0, 0.0, 1.0, 2.0),
        "min_p": pick(0.0, 0.0, 0.02, 0.1, 0.5, 1.0),
        "chance": pick(0.0, 0.5, 1.0),
        "threshold": pick(0.0, 0.03, 0.1, 0.5),
        "seed": int(dice.integers(2**32)),
        "position": int(dice.integers(5000)),
    }


def any_text(dice: np.random.Generator, size: int) -> list[int]:
    """Few different tokens, so that it repeats itself."""
    return dice.integers(0, min(size, dice.integers(2, 8)), dice.integers(1, 60)).tolist()


def options_of(wishes: list[dict], texts: list[list[int]], size: int):
    """The rows as the engine stacks them."""
    column = lambda name: torch.tensor([wish[name] for wish in wishes], dtype=torch.float32)  # noqa: E731
    counts = torch.stack([torch.bincount(torch.tensor(text), minlength=size) for text in texts])
    seen = counts > 0 if any(wish["penalty"] != 1 for wish in wishes) else None
    made = rows(
        *({n: wish[n] for n in ("temperature", "top_k", "top_p", "penalty", "seed", "position")} for wish in wishes),
        seen=seen,
    )
    made.filters = Filters(column("sigma"), column("min_p").log(), column("chance"), column("threshold"))
    found = [Pressure.of(asked(wish), wish["bias"], LETTERS, text) for wish, text in zip(wishes, texts, strict=True)]
    found = {row: pressure for row, pressure in enumerate(found) if pressure is not None}
    made.pressures = Pressures(found) if found else None
    made.__post_init__()
    return made


def asked(wish: dict) -> Sampling:
    return Sampling(
        frequency_penalty=wish["frequency"],
        presence_penalty=wish["presence"],
        logit_bias=tuple(f"{token} = {bias}" for token, bias in wish["bias"].items()),
        dry_multiplier=wish["multiplier"],
        dry_base=wish["base"],
        dry_allowed_length=wish["allowed"],
        dry_range=wish["range"],
        dry_sequence_breakers=tuple(LETTERS.tokens[token].decode() for token in wish["breakers"]),
    )


def stretches_of(wish: dict, text: list[int]) -> Stretches:
    return Stretches(asked(wish), LETTERS, text)


def any_logits(dice: np.random.Generator, count: int, size: int, kind: str) -> torch.Tensor:
    """Logits [B, V] as a model in this precision hands them on: 16 bits make ties, and int8 whole numbers of a scale."""
    logits = dice.normal(0, 3, (count, size))
    if kind == "int8":
        return torch.from_numpy(
            (logits * 400).round().astype(np.float32) * dice.uniform(0.002, 0.004, (count, 1))
        ).float()
    if dice.random() < 0.5:
        logits = (logits * 2).round() / 2  # far more ties
    return torch.from_numpy(logits).to(getattr(torch, kind)).float()


def check(logits: torch.Tensor, wishes: list[dict], texts: list[list[int]]) -> int:
    """Compare what is kept and drawn in every row with the definitions; how many rows could be judged."""
    options, size = options_of(wishes, texts, logits.shape[1]), logits.shape[1]
    given = logits.clone()
    choice = choose(given, options, survey(given).top, torch.arange(size).expand(len(logits), -1))
    assert torch.equal(given, logits)
    found = penalise(logits, options.penalty, options.seen).clone()
    found = Pressed(found, options.pressures).scores if options.pressures else found
    scores = np.array([pressed(*row) for row in zip(logits.numpy(), wishes, texts, strict=True)])
    assert np.allclose(found, scores, rtol=1e-5, atol=1e-4)
    found, noise, judged = found.double().numpy(), plain_gumbel(wishes, size), 0
    for n, (wish, ours) in enumerate(
        zip(wishes, found, strict=True)
    ):  # with float32's rounding, so that ties are the same
        kept, near = kept_of(ours, wish, plain_coin(wish["seed"], 0, wish["position"]) < wish["chance"])
        if near < NEAR:
            continue
        judged += 1
        assert np.array_equal(~choice.cut[n].numpy(), kept), wish
        scaled, index = ours / wish["temperature"], int(choice.ids[n])
        peak = scaled[kept].max()
        logprob = scaled[index] - peak - np.log(np.exp(scaled[kept] - peak).sum())
        assert np.isclose(choice.sampled_logprob[n], logprob, rtol=1e-5, atol=1e-4)
        noisy = np.where(kept, scaled + noise[n], -np.inf)
        assert np.isclose(noisy[index], noisy.max(), rtol=1e-6, atol=1e-5)
    return judged


@pytest.mark.parametrize("kind", TYPES)
def test_all_together_keep_and_draw_what_their_definitions_say(kind, way):
    dice, judged = np.random.default_rng(5), 0
    for turn in range(25):
        size = int(dice.choice([2, 7, 30, FEW, 60, 300]))
        wishes = [any_wish(dice, size) for _ in range(30)]
        if turn % 2:  # another way to find the likeliest anew
            wishes = [wish | {"penalty": 1.0} for wish in wishes]
        judged += check(any_logits(dice, 30, size, kind), wishes, [any_text(dice, size) for _ in wishes])
    assert judged > 720  # of 750


@pytest.mark.parametrize("names", ALONE)
def test_each_alone_keeps_and_draws_what_its_definition_says(names, way):
    dice, judged = np.random.default_rng(6), 0
    for turn in range(8):
        size = int(dice.choice([7, 60, 300]))
        wishes = [any_wish(dice, size) for _ in range(30)]
        wishes = [OFF | {name: wish[name] for name in [*names.split(), "seed", "position"]} for wish in wishes]
        judged += check(any_logits(dice, 30, size, TYPES[turn % 4]), wishes, [any_text(dice, size) for _ in wishes])
    assert judged > 230  # of 240


def test_a_row_has_the_same_bits_alone_and_in_company():
    dice, size = np.random.default_rng(7), 300
    wishes = [any_wish(dice, size) if n % 3 else OFF | {"top_k": n % 2 * 5, "seed": n} for n in range(24)]
    texts, logits = [any_text(dice, size) for _ in wishes], any_logits(dice, 24, size, "float32")

    def told(some: list[int]) -> np.ndarray:
        options = options_of([wishes[n] for n in some], [texts[n] for n in some], size)
        options.filters = options.filters if options.filters.on.any() else None
        given = logits[some]
        return report_sampled(given, seen := survey(given), choose(given, options, seen.top), options).records()

    together = told(list(range(24)))
    for n in range(24):
        assert told([n]).tobytes() == together[n : n + 1].tobytes()


def test_rows_without_any_of_it_have_the_bits_that_they_had_before_there_was_any():
    dice, size = np.random.default_rng(8), 300
    wishes = [OFF | {"top_k": k, "top_p": p, "seed": n} for n, (k, p) in enumerate([(0, 1), (5, 1), (0, 0.5), (60, 1)])]
    logits = any_logits(dice, 5, size, "float32")
    before = choose(logits[:4], rows(*({n: w[n] for n in ("top_k", "top_p", "seed", "position")} for w in wishes)))
    busy = OFF | {"min_p": 0.1, "chance": 0.5, "presence": 0.5, "bias": {3: 2.0}}
    beside = choose(logits, options_of([*wishes, busy], [[1, 2, 1, 2]] * 5, size))
    for name in ("ids", "sampled_logprob", "threshold", "last", "norm"):
        assert torch.equal(getattr(beside, name)[:4], getattr(before, name)), name


def test_the_coin_is_a_function_of_seed_sample_and_position_and_falls_as_often_as_it_should():
    keys = np.stack(np.meshgrid(range(20), range(5), range(200), indexing="ij"), -1).reshape(-1, 3)
    drawn = coin(keys_of(*torch.tensor(keys).T))
    assert drawn[::97].tolist() == [plain_coin(*key) for key in keys[::97].tolist()]
    for share in (0.1, 0.5, 0.9):
        assert abs((drawn < share).double().mean() - share) < 5 * (share * (1 - share) / len(keys)) ** 0.5
    grid = drawn.reshape(20, 5, 200)
    for a, b in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1]), (grid[..., 1:], grid[..., :-1])):
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 5 / a.numel() ** 0.5


def test_temperature_zero_takes_the_likeliest_of_what_penalties_and_biases_made():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    wish = OFF | {"temperature": 0.0, "chance": 1.0, "threshold": 0.0, "min_p": 0.5, "presence": 2.0, "bias": {3: 1.5}}
    choice = choose(logits, options_of([wish], [[0, 0]], 4))
    assert (choice.ids.tolist(), choice.sampled_logprob.tolist()) == ([1], [0.0])


# Texts, as they grow


def test_rows_that_grew_side_by_side_are_pressed_as_if_their_texts_had_been_there_at_once():
    """With more tokens than there was room for, and put together anew in the middle."""
    dice, size = np.random.default_rng(10), 300
    wishes = [any_wish(dice, size) | {"frequency": 0.3 * (n % 3)} for n in range(6)]
    texts = [any_text(dice, size) for _ in wishes]

    def made(n: int) -> Pressure:
        return Pressure(asked(wishes[n]), wishes[n]["bias"], LETTERS, texts[n])

    def told(pressures: Pressures) -> list[tuple[int, float]]:
        return sorted(zip(*(part.tolist() for part in pressures.found(size)), strict=True))

    grown = [made(n) for n in range(6)]
    for turn in range(240):
        if turn % 200 == 0:
            together = Pressures({row: grown[row] for row in (3, 0, 4, 1, 5, 2)})
        for text, pressure in zip(texts, grown, strict=True):
            text.append(int(dice.integers(0, 4 if turn % 2 else size)))
            pressure.append(text[-1])
        if turn % 10 == 9:
            assert told(together) == told(Pressures({n: made(n) for n in range(6)}))
    assert max(pressure.used for pressure in grown) > 100


def test_a_text_that_grew_and_one_that_was_there_at_once_are_told_the_same():
    dice = np.random.default_rng(9)
    wish = OFF | {"multiplier": 0.8, "range": 9, "breakers": {0}}
    text = dice.integers(0, 4, 200).tolist()
    grown = stretches_of(wish, [])
    for end, token in enumerate(text, 1):
        grown.append(token)
        whole = stretches_of(wish, text[:end])
        for ours in (grown, whole):
            assert dict(zip(*(part.tolist() for part in ours.found()), strict=True)) == longest(text[:end], wish)


def test_a_breaker_may_lie_within_a_token_or_reach_over_several():
    vocabulary = Vocabulary([b"a", b"b", b"x\nx", "“".encode()[:2], "“".encode()[2:], b"c"])
    sampling = Sampling(dry_multiplier=1.0, dry_sequence_breakers=("\n", "“"))
    found = lambda ids: dict(zip(*(p.tolist() for p in Stretches(sampling, vocabulary, ids).found()), strict=True))  # noqa: E731
    assert found([0, 1, 5, 5, 0, 1]) == {5: 2}
    assert found([0, 2, 1, 5, 0, 2, 1]) == {}
    assert found([0, 3, 4, 1, 5, 0, 3, 4, 1]) == {}
    assert found([0, 1, 4, 5, 0, 1, 4]) == {5: 3}  # half of it alone is none
    assert found([0, 1, 2, 0, 1]) == {}  # a breaker itself is not pressed down


def test_stretches_of_more_than_fifty_tokens_count_as_of_fifty():
    wish = OFF | {"multiplier": 1.0, "base": 4.0, "range": 4096}
    ids, lengths = stretches_of(wish, [5] * 300).found()
    assert (ids.tolist(), lengths.tolist()) == ([5], [50])
    assert np.isfinite(stretches_of(wish, [5] * 300).losses).all()


@pytest.mark.parametrize("size", [30, FEW, 300, 1000])
def test_what_changes_a_little_is_found_again_as_if_it_were_looked_for_anew(size):
    """Scores with many equal ones, of which some fall, rise or stay, among them the likeliest and the last of those."""
    dice = np.random.default_rng(size)
    for turn in range(150):
        scores = torch.from_numpy(dice.integers(-9, 9, (3, size)).astype(np.float32)) / (1 + turn % 4)
        seen = survey(scores)
        likely = seen.top.ids[:, [0, 1, 5, -2, -1]].numpy() if turn % 2 else seen.top.ids[:, :0].numpy()
        rows = [np.union1d(dice.integers(0, size, turn % 7), likely[row]) for row in range(3)]
        touched = torch.from_numpy(np.concatenate([ids.astype(np.int64) + row * size for row, ids in enumerate(rows)]))
        flat = scores.view(-1)
        before = flat[touched]
        flat[touched] = before + torch.from_numpy(dice.integers(-4, 4, len(touched)).astype(np.float32)) / 2
        again, anew = top_few_again(scores, touched, before, seen.top), survey(scores).top
        assert again.ids.tolist() == anew.ids.tolist()
        assert again.values.tolist() == anew.values.tolist()
        assert again.maxima.tolist() == anew.maxima.tolist()


@pytest.mark.parametrize("size", [30, FEW, 300, 1000])
def test_of_those_found_again_as_many_are_sure_as_are_needed(size):
    """The likeliest fall one after the other, and some others rise, so that all that are known come to an end."""
    dice = np.random.default_rng(size)
    for turn in range(150):
        scores = torch.from_numpy(dice.integers(-9, 9, (3, size)).astype(np.float32)) / (1 + turn % 4)
        seen, needed = survey(scores), np.array([1, 10, 40])
        falling = seen.top.ids[:, : turn % 30].numpy()
        touched = [np.union1d(ids, dice.integers(0, size, 9)) + row * size for row, ids in enumerate(falling)]
        touched, flat = torch.from_numpy(dice.permutation(np.concatenate(touched))), scores.view(-1)
        before = flat[touched]
        flat[touched] = before - torch.from_numpy(dice.integers(-1, 5, len(touched)).astype(np.float32))
        again, anew = top_few_again(scores, touched, before, seen.top, needed), survey(scores).top
        for row, count in enumerate(needed):
            assert again.ids[row, :count].tolist() == anew.ids[row, :count].tolist()
            assert again.values[row, :count].tolist() == anew.values[row, :count].tolist()


@pytest.mark.parametrize("unlike", [0, 1000])
def test_a_floor_is_what_it_is_unless_it_is_below_all_that_matters(unlike):
    """Of rows of several pieces; the first of them may be far from the others, from which distances are measured then."""
    dice, lanes = np.random.default_rng(11), np.empty((3, LANES), np.float32)
    early = 0
    for _ in range(50):
        x = dice.normal(0, 1, 20_000).astype(np.float32)
        x[:300] += unlike
        x[dice.integers(0, len(x), 99)] = -np.inf
        peak, sigmas = x.max(), np.float32(dice.uniform(0.5, 4))
        whole = floor_of(x, peak, sigmas, LOWEST, lanes)
        assert np.isclose(whole, peak - sigmas * x[np.isfinite(x)].astype(np.float64).std(), rtol=1e-4, atol=1e-4)
        least = np.float32(whole + dice.normal(0, 0.2) * (peak - whole))
        found = floor_of(x, peak, sigmas, least, lanes)
        early += found == LOWEST
        assert found == whole or (found == LOWEST and whole < least)
    assert early > 5
