"""The noise is fair and repeatable, the filters do what their definitions say, and a row is its own master."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from generate import Place, Vocabulary, record_as_dict, record_dtype, unknown_records
from generate.sampling import sampler
from generate.sampling.noise import gumbel, place_keys, row_key
from generate.sampling.sampler import FEW, RowOptions, choose, penalise
from generate.sampling.statistics import prompt_records, report_sampled, report_usual, survey
from generate.sampling.top import top_few, top_few_by_torch

OPTIONS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "penalty": 1.0, "seed": 1, "sample": 0, "position": 7}


def rows(*wishes: dict, seen=None) -> RowOptions:
    """One row for each wish; what it leaves out is off."""
    columns = {name: [(OPTIONS | wish)[name] for wish in wishes] for name in OPTIONS}
    return RowOptions(**{n: torch.tensor(c, dtype=kind(n)) for n, c in columns.items()}, seen=seen)


def kind(name: str) -> torch.dtype:
    return torch.float32 if isinstance(OPTIONS[name], float) else torch.int64


def noise(seed, sample, position, ids) -> np.ndarray:
    """Noise of one row for some ids, float64 [K]."""
    keys = (torch.tensor([key]) for key in (seed, sample, position))
    return gumbel(keys_of(*keys), torch.tensor([list(ids)]))[0].double().numpy()


def keys_of(seed, sample, position) -> tuple:
    return place_keys(row_key(seed, sample), position)


def plain_noise(seed: int, sample: int, position: int, token: int) -> float:
    """The same noise written down a second time, in Python's own numbers."""
    first = plain_mix(plain_mix(plain_mix(seed) ^ (sample + 0x9E3779B9) % 2**32) ^ (position + 0x85EBCA6B) % 2**32)
    word = plain_mix(plain_mix((token + plain_mix(first ^ 0xC2B2AE35)) % 2**32) ^ first)
    return -math.log(-math.log((word + 0.5) / 2**32))


def plain_mix(x: int) -> int:
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_noise_is_a_pure_function_of_seed_sample_position_and_id():
    rng = np.random.default_rng(0)
    keys = [(0, 0, 0), (2**32 - 1, 31, 2**20), *rng.integers(0, 2**20, (20, 3)).tolist()]
    ids = torch.tensor(rng.permutation(50257)[:300])
    together = gumbel(keys_of(*torch.tensor(keys).T), ids[None])
    for key, row in zip(keys, together, strict=True):
        assert np.array_equal(noise(*key, ids.tolist()), row.double().numpy())
        assert np.array_equal(noise(*key, ids.flip(0).tolist()), row.flip(0).double().numpy())
        assert noise(*key, [int(ids[5])]) == row[5].item()
        assert noise(*key, ids[:9].tolist()) == pytest.approx(
            [plain_noise(*key, i) for i in ids[:9].tolist()], rel=1e-6
        )
    own = gumbel(keys_of(*torch.tensor(keys).T), torch.stack([ids.roll(n) for n in range(len(keys))]))
    assert all(torch.equal(row.roll(-n), together[n]) for n, row in enumerate(own))


def grid(seeds=32, samples=8, positions=32, ids=64) -> np.ndarray:
    """Noise of neighbouring keys, [seeds, samples, positions, ids]."""
    keys = np.stack(np.meshgrid(*map(np.arange, (seeds, samples, positions)), indexing="ij"), -1).reshape(-1, 3)
    return (
        gumbel(keys_of(*torch.tensor(keys).T), torch.arange(ids)[None])
        .double()
        .numpy()
        .reshape(seeds, samples, positions, ids)
    )


def test_noise_is_distributed_as_gumbel():
    draws, sigma2 = grid().ravel(), math.pi**2 / 6
    assert np.isfinite(draws).all()
    assert abs(draws.mean() - 0.5772156649) < 5 * (sigma2 / draws.size) ** 0.5
    # the variance of a sample variance is sigma^4 (kurtosis - 1) / n, and Gumbel's kurtosis is 5.4
    assert abs(draws.var() - sigma2) < 5 * sigma2 * (4.4 / draws.size) ** 0.5
    for x in (-1.5, 0, 0.5, 2, 6):
        share = math.exp(-math.exp(-x))
        assert abs((draws < x).mean() - share) < 5 * (share * (1 - share) / draws.size) ** 0.5


@pytest.mark.parametrize("axis", range(4), ids=["seeds", "samples", "positions", "ids"])
def test_neighbouring_keys_have_unrelated_noise(axis):
    draws = grid()
    size = draws.shape[axis]
    for step in (1, 2, size // 2):
        here, there = draws.take(range(size - step), axis).ravel(), draws.take(range(step, size), axis).ravel()
        assert abs(np.corrcoef(here, there)[0, 1]) < 5 / here.size**0.5
        assert (here == there).mean() < 1e-5
    assert len(np.unique(draws.reshape(-1, draws.shape[-1])[:, :4], axis=0)) == draws[..., 0].size  # no two keys alike


WAYS = ({"temperature": 0.0}, {}, {"top_k": 5}, {"top_k": 60, "top_p": 0.9}, {"penalty": 1.5, "top_p": 0.5})


@pytest.mark.parametrize("size", [20, 5000])
def test_a_row_that_must_not_end_yet_chooses_as_if_there_were_no_end_token(size):
    torch.manual_seed(3)
    logits, ends, count = torch.randn(2 * len(WAYS), size), torch.tensor([4, 7]), len(WAYS)
    logits[:, ends] += 9  # all would end
    seen = torch.rand(2 * count, size) < 0.3
    options = rows(*WAYS, *WAYS, seen=seen)
    options.ends, options.ends_from = ends, torch.tensor([8] * count + [7] * count)  # the first half stands at 7
    options.__post_init__()
    found, plain = choose(logits, options, survey(logits).top), rows(*WAYS, *WAYS, seen=seen)
    without = logits.clone()
    without[:count, ends] = -torch.inf
    wanted = choose(without, plain)
    for name in ("ids", "sampled_logprob", "threshold", "last", "norm"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert not torch.isin(found.ids[:count], ends).any()
    assert torch.isin(found.ids[count:], ends).any()
    told = report_sampled(logits, survey(logits), found, options).records()
    cut = [bool(told["cut"][row] >> place & 1) for row in range(count) for place in range(2)]  # the likeliest two
    assert all(cut)
    options.advance(found.ids)
    assert torch.equal(choose(logits, options).ids, choose(logits, options, survey(logits).top).ids)
    assert not options.some_early


def expected(logits, wish: dict, seen) -> tuple[np.ndarray, np.ndarray, float]:
    """Scaled logits and which of them are kept, by the filters' definitions; and how near top_p was to a tie."""
    wish = OPTIONS | wish
    scaled = np.array(logits, float)
    for i in range(len(scaled)):
        if seen[i]:
            scaled[i] = scaled[i] / wish["penalty"] if scaled[i] > 0 else scaled[i] * wish["penalty"]
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))  # of equally likely tokens the lower id is first
    scaled /= wish["temperature"]
    order = order[: wish["top_k"] or None]
    shares, near = np.exp(scaled[order] - max(scaled)), 1
    if wish["top_p"] < 1:
        before = np.cumsum(shares / shares.sum())
        near = min(abs(before - wish["top_p"]))
        order = order[: 1 + int((before[:-1] < wish["top_p"]).sum())]
    kept = np.full(len(scaled), False)
    kept[order] = True
    return scaled, kept, near


halves = st.integers(-6, 6).map(lambda n: n / 2)
wishes = st.fixed_dictionaries({
    "temperature": st.sampled_from([0.5, 1.0, 2.0, 4.0]),  # powers of two, so that float32 and float64 agree on ties
    "top_k": st.sampled_from([0, 1, 2, 3, 5, FEW, FEW + 1, 1_000_000]),
    "top_p": st.sampled_from([0.0, 0.05, 0.3, 0.6, 0.95, 1.0]),
    "penalty": st.sampled_from([0.5, 1.0, 2.0]),
    "seed": st.integers(0, 2**32 - 1),
    "position": st.integers(0, 5000),
})  # fmt: skip


def scaled_all(logits: torch.Tensor, options: RowOptions) -> torch.Tensor:
    """What the sampler makes of all logits."""
    return penalise(logits, options.penalty, options.seen) / options.divisor


def every_id(logits: torch.Tensor) -> torch.Tensor:
    return torch.arange(logits.shape[1]).expand(len(logits), -1)


def kept_by(options: RowOptions, logits: torch.Tensor) -> torch.Tensor:
    """Which of all tokens the filters left, as the engine tells of those it shows."""
    return ~choose(logits, options, shown=every_id(logits)).cut


@settings(deadline=None)
@given(st.lists(st.tuples(halves, st.booleans()), min_size=1, max_size=14), wishes)
def test_filters_keep_and_draw_what_their_definitions_say(tokens, wish):
    logits, seen = zip(*tokens, strict=True)
    scaled, kept, near = expected(logits, wish, seen)
    assume(near > 1e-5)
    options = rows(wish, seen=torch.tensor([seen]))
    choice = choose(torch.tensor([logits]), options)
    ours = scaled_all(torch.tensor([logits]), options)
    assert ours[0].tolist() == scaled.tolist()
    assert kept_by(options, torch.tensor([logits]))[0].tolist() == kept.tolist()
    total = math.log(sum(math.exp(x) for x in scaled[kept]))
    assert choice.sampled_logprob.item() == pytest.approx(scaled[choice.ids[0]] - total, abs=1e-5)
    noisy = np.where(kept, scaled + noise(wish["seed"], 0, wish["position"], range(len(scaled))), -np.inf)
    assert noisy[choice.ids[0]] == pytest.approx(noisy.max(), abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 5, FEW - 1, FEW, FEW + 1, 299])
@pytest.mark.parametrize("top_p", [1.0, 0.999])
def test_of_tokens_that_tie_as_many_are_kept_as_were_asked_for_those_with_the_lowest_ids(top_k, top_p):
    logits = torch.zeros(64, 300)
    options = rows(*({"top_k": top_k, "top_p": top_p, "seed": n} for n in range(64)))
    choice = choose(logits, options)
    assert kept_by(options, logits).tolist() == [[True] * top_k + [False] * (300 - top_k)] * 64
    assert choice.sampled_logprob.tolist() == pytest.approx([-math.log(top_k)] * 64, abs=1e-5)
    alone = [np.argmax(noise(n, 0, 7, range(top_k))) for n in range(64)]
    assert choice.ids.tolist() == alone


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    """By the CPU's compiled functions, and by the tensors' operations that a GPU has."""
    if request.param == "torch":
        monkeypatch.setattr(sampler, "top_few", top_few_by_torch)
        monkeypatch.setattr(sampler, "draw_few", sampler.draw_sorted)
    return request.param


def rounded_rows(dtype: torch.dtype, size: int) -> torch.Tensor:
    """Logits as a model in this type hands them on, the three likeliest equal in every row."""
    logits = (torch.randn(8, size, generator=torch.Generator().manual_seed(size)) * 3).to(dtype).float()
    places = logits.topk(3, 1).indices
    return logits.scatter(1, places, logits.amax(1, keepdim=True).expand(-1, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("size", [7, 300, 50_257])
@pytest.mark.parametrize("wish", [{"top_k": 1}, {"top_p": 0.0}, {"temperature": 0.0}, {"top_k": 1, "penalty": 1.3}])
def test_top_k_1_and_top_p_0_are_greedy_also_where_the_likeliest_tie(dtype, size, wish, way):
    logits = rounded_rows(dtype, size)
    seen = torch.zeros_like(logits, dtype=torch.bool) if "penalty" in wish else None
    for sample in range(4):
        choice = choose(logits, rows(*[wish | {"sample": sample, "seed": 5}] * 8, seen=seen))
        assert choice.ids.tolist() == logits.numpy().argmax(1).tolist()
        assert choice.sampled_logprob.tolist() == [0.0] * 8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(
    "wish", [{"top_k": 2}, {"top_k": 47}, {"top_k": 200}, {"top_p": 0.7}, {"top_k": 20, "top_p": 0.5}]
)
def test_filters_cut_ties_by_id_in_every_precision_and_by_either_way(dtype, wish, way):
    logits = rounded_rows(dtype, 3000)
    options = rows(*[wish | {"seed": n} for n in range(8)])
    choice = choose(logits, options)
    for row in range(8):
        scaled, kept, near = expected(logits[row].tolist(), wish, [False] * 3000)
        assert near > 1e-6
        assert kept_by(options, logits)[row].tolist() == kept.tolist()
        noisy = np.where(kept, scaled + noise(row, 0, 7, range(3000)), -np.inf)
        assert choice.ids[row] == noisy.argmax()


@settings(deadline=None)
@given(st.lists(wishes, min_size=2, max_size=6), st.sampled_from([1, 7, FEW, 400]), st.integers(0, 99))
def test_a_choice_does_not_depend_on_the_neighbours_and_their_options(wanted, size, seed):
    logits = torch.randn(len(wanted), size, generator=torch.Generator().manual_seed(seed)) * 4
    seen = logits > 3
    together = choose(logits, rows(*wanted, seen=seen))
    for n, wish in enumerate(wanted):
        own = rows(wish, seen=seen[n : n + 1])
        alone = choose(logits[n : n + 1], own)
        assert alone.ids[0] == together.ids[n]
        assert (alone.threshold[0], alone.last[0]) == (together.threshold[n], together.last[n])
        assert alone.sampled_logprob[0].item() == pytest.approx(together.sampled_logprob[n].item(), abs=1e-5)


def test_a_choice_does_not_depend_on_the_neighbours_even_where_rounding_makes_ties():
    logits = (
        torch.randint(0, 6, (1, 200), generator=torch.Generator().manual_seed(0)) + 1e7
    )  # float32 there counts in ones
    for seed in range(50):
        together = choose(logits.expand(3, -1), rows({"seed": seed}, {"top_p": 0.5}, {"top_k": 3}))
        assert choose(logits, rows({"seed": seed})).ids[0] == together.ids[0]


def test_a_row_of_nan_leaves_its_neighbours_alone():
    for wish in ({}, {"top_k": 3}, {"top_p": 0.5}):
        logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
        before = choose(logits, rows(wish, wish, wish)).ids
        logits[1] = math.nan
        after = choose(logits, rows(wish, wish, wish)).ids
        assert (before[0], before[2]) == (after[0], after[2])


@settings(deadline=None)
@given(st.lists(halves, min_size=1, max_size=12), wishes, st.booleans())
def test_temperature_zero_takes_the_likeliest_whatever_else_is_asked(logits, wish, company):
    wish = wish | {"temperature": 0.0, "penalty": 1.0}
    choice = choose(torch.tensor([logits] * 2), rows(wish, {} if company else wish))
    assert choice.ids[0] == np.argmax(logits)
    assert choice.sampled_logprob[0] == 0


@pytest.mark.parametrize("size", [1, FEW, 300, 8192, 12288, 20_011, 50_257])
@pytest.mark.parametrize("ties", [False, True])
def test_the_likeliest_found_are_those_that_sorting_finds_ties_in_the_order_of_their_ids(size, ties):
    logits = torch.randn(4, size, generator=torch.Generator().manual_seed(size))
    logits = (logits * 3).round() if ties else logits  # 0.0 and -0.0 among them
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :FEW]
    for top in (top_few(logits), top_few_by_torch(logits)):
        assert top.ids.tolist() == order.tolist()
        assert torch.equal(logits.gather(1, top.ids), top.values)


@pytest.mark.parametrize("wish", [{}, {"top_k": 3}, {"top_p": 0.8}, {"temperature": 2.0, "top_k": FEW + 1}])
def test_tokens_are_drawn_as_often_as_they_should_be(wish):
    logits, draws = [2.0, 1.0, 1.0, 0.5, -1.0, -3.0], 20_000
    ids = choose(torch.tensor([logits] * draws), rows(*(wish | {"position": n} for n in range(draws)))).ids
    scaled, kept, _ = expected(logits, wish, [False] * 6)
    share = np.where(kept, np.exp(scaled), 0) / np.exp(scaled[kept]).sum()
    assert (np.abs(np.bincount(ids, minlength=6) / draws - share) <= 5 * (share * (1 - share) / draws) ** 0.5).all()


@pytest.mark.parametrize("size", [1, 2, 9, 10, 11, 300])
def test_records_say_what_the_model_thought_and_what_the_filters_did(size):
    logits = torch.randn(2, size, generator=torch.Generator().manual_seed(size)) * 3
    wanted = [{"temperature": 0.5, "top_k": 4}, {"temperature": 2.0, "top_p": 0.7}]
    options = rows(*wanted)
    choice = choose(logits, options, survey(logits).top)
    for place, record in enumerate(report_sampled(logits, survey(logits), choice, options).records()):
        exact = logits[place].double().numpy()
        logprobs = exact - np.log(np.exp(exact).sum())
        order, token, width = np.argsort(-exact), int(choice.ids[place]), min(10, size)
        scaled, kept, _ = expected(exact, wanted[place], [False] * size)
        assert (record["id"], record["rank"]) == (token, 1 + (exact > exact[token]).sum())
        assert record["logprob"] == pytest.approx(logprobs[token], abs=1e-5)
        assert record["entropy"] == pytest.approx(-(np.exp(logprobs) * logprobs).sum(), abs=1e-5)
        assert record["log_z"] == pytest.approx(np.log(np.exp(exact).sum()), abs=1e-5)
        sampled = scaled - np.log(np.exp(scaled[kept]).sum())
        assert record["sampled_logprob"] == pytest.approx(sampled[token], abs=1e-5)
        by_norm = record["logprob"] / wanted[place]["temperature"] - record["filter_norm"]
        assert by_norm == pytest.approx(sampled[token], abs=1e-5)
        assert record["alt_ids"][:width].tolist() == order[:width].tolist()
        assert record["alt_logprobs"][:width] == pytest.approx(logprobs[order[:width]], abs=1e-5)
        assert np.isnan(record["alt_logprobs"][width:]).all()
        assert [bool(record["cut"] >> n & 1) for n in range(10)] == [*~kept[order[:width]], *[False] * (10 - width)]
        plain = record_as_dict(record, Vocabulary([b"x"] * size))
        assert [alternative["id"] for alternative in plain["alternatives"]] == order[:width].tolist()


def test_records_of_a_prompt_know_nothing_of_sampling():
    logits = torch.tensor([[0.0, 2.0, 2.0, -1.0]] * 4)
    records = prompt_records(logits, torch.arange(4))
    assert records["rank"].tolist() == [3, 1, 1, 4]  # equal tokens share a rank
    assert np.isnan(records["sampled_logprob"]).all()
    assert np.isnan(records["filter_norm"]).all()
    assert not records["cut"].any()
    first = unknown_records([3], 4)[0]
    assert (first["id"], first["rank"], np.isnan(first["logprob"])) == (3, 0, True)


def test_a_record_takes_86_bytes_or_110_where_ids_need_32_bits():
    assert [record_dtype(size).itemsize for size in (1, 300, 50257, 65535, 65537)] == [86, 86, 86, 86, 110]


@pytest.mark.parametrize("size", [65535, 65536, 65537])
def test_the_last_id_and_the_last_rank_fit_into_a_record(size):
    logits = -torch.arange(size, dtype=torch.float32)[None] / 1000
    record = prompt_records(logits, torch.tensor([size - 1]))[0]
    assert (record["id"], record["rank"]) == (size - 1, size)


@pytest.mark.parametrize("temperature", [0.0, 5e-5, 9.99999999e-5, 1e-4, 0.01, 1.0])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_records_give_the_sampler_s_probability_of_every_token_it_kept(temperature, penalty):
    """Also just below and above the temperature from which on the engine is not greedy any more."""
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(3))
    before = np.array([int(logits.argmax()), int(logits.argmin())])
    seen = torch.zeros(1, 8, dtype=torch.bool)
    seen[0, before] = True
    wish = {"temperature": temperature, "penalty": penalty}
    options = rows(wish, seen=seen)
    found = survey(logits)
    record = report_sampled(logits, found, choose(logits, options, found.top), options).records()[0]
    scaled = scaled_all(logits, options)[0].double()
    right = scaled - scaled.logsumexp(0)
    if options.greedy:
        right = torch.where(torch.arange(8) == scaled.argmax(), 0, -torch.inf)
    told = {"temperature": temperature, "repetition_penalty": penalty}
    close = 1e-6 * max(1.0, scaled.abs().max().item())  # what float32 holds of the scaled logits
    for index, logprob in zip(record["alt_ids"][:8], record["alt_logprobs"], strict=False):
        ours = Place(record, told, before).logprob(index, float(logprob))
        assert ours == pytest.approx(right[index].item(), abs=close)
    own = Place(record, told, before).logprob(record["id"], float(record["logprob"]))
    assert own == pytest.approx(float(record["sampled_logprob"]), abs=close)


@pytest.mark.parametrize("size", [3, 7, FEW, 300, 50_257])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_usual_way_in_one_call_tells_the_same_bits_as_step_by_step(size, dtype):
    """Among ties, tokens that cannot be, and a row of NaN."""
    logits = rounded_rows(dtype, size).float()
    count = len(logits)
    logits[0, 1:3], logits[-1] = -torch.inf, torch.nan
    wishes = [
        {"top_k": 1 + 7 * n % (FEW - 1), "top_p": (1.0, 0.7)[n % 2], "temperature": 0.5 + n % 3} for n in range(count)
    ]
    options = rows(*wishes)
    assert options.usual
    seen = survey(logits)
    wanted = report_sampled(logits, seen, choose(logits, options, seen.top), options).records()
    found = report_usual(logits, options).records()
    assert found[:-1].tobytes() == wanted[:-1].tobytes()
    assert np.isnan(found["sampled_logprob"][-1])
    options.blocked = [(0, [0])]
    assert not options.usual
    assert not rows(*wishes, {"temperature": 0.0}).usual
