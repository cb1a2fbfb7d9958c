"""The compiled pass of the int8 model: bits that do not depend on company, pages that are shared, odd sizes."""

import gc
import os
import re
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from generate import Config, tensor_shapes
from generate.compiled.writer import PLACES
from generate.sampling import likeliest
from generate.sampling.sampler import FEW
from generate.sampling.statistics import survey, survey_by_torch
from generate.transformer.int8.packing import empty_linear, fill_linear
from generate.transformer.int8.pages import Pages, Pool
from generate.transformer.int8.rowwise import embed
from generate.transformer.model import Scaled, new_model

SMALL = {"vocab_size": 1001, "n_positions": 300, "n_embd": 128, "n_layer": 3, "n_head": 2, "n_inner": 512}
ODD = {"vocab_size": 101, "n_positions": 300, "n_embd": 30, "n_layer": 2, "n_head": 3, "n_inner": 42}


def both(activation="gelu_new", **sizes):
    """The same random model in int8 and in float32."""
    config = Config(**sizes, activation=activation)
    dice = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=dice) * 0.1 for name, shape in tensor_shapes(config).items()}
    for name, tensor in tensors.items():
        tensor += "ln_" in name and name.endswith("weight")
    tensors = dict(Scaled(tensors, config))
    return (new_model(config, tensors, kind) for kind in ("int8", "float32"))


@pytest.fixture(scope="module", params=[SMALL, ODD], ids=["small", "odd"])
def model(request):
    return next(both(**request.param))


def read(model, cache, ids, pieces=1):
    """A text that was read in so many pieces, and its hidden states."""
    prefix, found = cache.new_prefix(len(ids)), []
    for part in np.array_split(np.arange(len(ids)), pieces):
        found.append(model.hidden([(prefix, torch.from_numpy(ids[part]), torch.from_numpy(part))]))
        prefix.length += len(part)
    return prefix, torch.cat(found)


def write(model, cache, ids):
    """One more token for every row of the cache; hidden states."""
    cache.make_room()
    positions = torch.tensor([slot.position for slot in cache.slots])
    found = model.hidden([(cache, torch.from_numpy(ids), positions)])
    cache.end_step()
    return found


def texts(model, count):
    rng = np.random.default_rng(1)
    return [rng.integers(0, model.config.vocab_size, 3 + 8 * i % 150) for i in range(count)]


@pytest.mark.long
def test_a_row_has_the_same_bits_alone_and_among_31_others_whatever_their_lengths(model):
    cache, given = model.new_cache(32, 0), texts(model, 32)
    for ids in given:
        cache.join(None, read(model, cache, ids)[0])
    steps = [np.arange(32) + step for step in range(3)]
    together = [write(model, cache, ids) for ids in steps]
    for row in (0, 7, 31):
        alone = model.new_cache(1, 0)
        alone.join(None, read(model, alone, given[row])[0])
        for ids, found in zip(steps, together, strict=True):
            assert torch.equal(write(model, alone, ids[row : row + 1])[0], found[row])


def test_a_text_read_in_pieces_has_the_same_bits(model):
    cache = model.new_cache(1, 1 << 30)
    for ids in texts(model, 12):
        whole = read(model, cache, ids)[1]
        assert torch.equal(read(model, cache, ids, pieces=3)[1], whole)
        assert torch.equal(read(model, cache, ids, pieces=len(ids))[1], whole)


def test_reading_beside_writing_changes_no_bit(model):
    cache, (first, second) = model.new_cache(2, 0), texts(model, 9)[7:]
    cache.join(None, read(model, cache, first)[0])
    twin = model.new_cache(2, 0)
    twin.join(None, read(model, twin, first)[0])
    row, text = write(model, twin, np.array([5])), read(model, twin, second)[1]
    cache.make_room()
    prefix, positions = cache.new_prefix(len(second)), torch.arange(len(second))
    found = model.hidden(
        [(cache, torch.tensor([5]), torch.tensor([len(first)])), (prefix, torch.from_numpy(second), positions)]
    )
    assert torch.equal(found, torch.cat((row, text)))


def test_rows_that_share_a_prompt_s_pages_write_as_if_each_had_its_own(model):
    ids = np.arange(130) % model.config.vocab_size
    shared = model.new_cache(8, 0)
    prompt = read(model, shared, ids)[0]
    before = int((shared.pool.users > 0).sum())
    for _ in range(8):
        shared.join(None, prompt)
    assert int((shared.pool.users > 0).sum()) == before + 8, "two full pages are shared, the third is everybody's own"
    own = model.new_cache(8, 0)
    for _ in range(8):
        own.join(None, read(model, own, ids)[0])
    for step in range(70):
        tokens = (np.arange(8) * 7 + step) % model.config.vocab_size
        assert torch.equal(write(model, shared, tokens), write(model, own, tokens))


def test_pages_are_given_back_and_what_was_in_them_does_not_matter(model):
    cache, ids = model.new_cache(3, 0), np.arange(100)
    fresh = read(model, cache, ids)[1]
    cache.pool.kv[:, :, :, :, : cache.pool.kv.shape[4] // 64 * 10] = 0x7E00  # NaN, as a row out of range leaves behind
    width, dim = cache.pool.kv.shape[4] // 64, model.config.n_embd // model.config.n_head
    cache.pool.kv.reshape(-1, width)[:, dim:] = 0
    assert torch.equal(read(model, cache, ids)[1], fresh)
    for _ in range(3):
        cache.join(None, read(model, cache, ids)[0])
    for slot in list(cache.slots):
        cache.leave(slot)
    assert not cache.pool.users.any()
    assert len(cache.pool.free) == len(cache.pool.users)
    assert torch.equal(read(model, cache, ids)[1], fresh)


def test_more_pages_than_there_are_is_a_memory_error_that_takes_nothing(model):
    pool = Pool(model.config, 2)
    pages = Pages(pool, 300)
    with pytest.raises(MemoryError):
        pages.reserve(200)
    pages.close()
    assert len(pool.free) == 2


@pytest.mark.parametrize("activation", ["gelu_new", "gelu", "relu", "silu"])
@pytest.mark.parametrize("sizes", [SMALL, ODD], ids=["small", "odd"])
def test_hidden_states_and_logits_are_near_those_of_float32(activation, sizes):
    ours, theirs = both(activation, **sizes)
    ids = np.arange(150) * 7 % sizes["vocab_size"]
    found = read(ours, ours.new_cache(1, 0), ids)[1]
    right = read(theirs, theirs.new_cache(1, 0), ids)[1]
    assert (found - right).norm() < 0.06 * right.norm()
    logits = theirs.logits(right)
    assert (ours.logits(right) - logits).norm() < 0.02 * logits.norm()


@pytest.mark.parametrize("size", [1, 30, FEW, 1000, 8192, 50257])
@pytest.mark.parametrize("ties", [False, True])
def test_the_compiled_survey_finds_what_torch_finds(size, ties):
    logits = torch.randn(5, size + 15, generator=torch.Generator().manual_seed(size))[:, :size] * 5 - 90
    logits = logits.round() if ties else logits
    ours, theirs = survey(logits), survey_by_torch(logits)
    assert torch.equal(ours.top.values, theirs.top.values)
    assert torch.equal(logits.gather(1, ours.top.ids), ours.top.values)
    exact = logits.double()
    log_z = exact.logsumexp(1, keepdim=True)
    entropy = -((exact - log_z).exp() * (exact - log_z)).sum(1, keepdim=True)
    for found in (ours, theirs):
        assert (found.log_z - log_z).abs().max() < 2e-5
        assert (found.entropy - entropy).abs().max() < 5e-5


def test_of_equally_likely_tokens_the_first_come_first():
    for found in (survey(torch.zeros(2, 5000)), survey_by_torch(torch.zeros(2, 5000))):
        assert found.top.ids.tolist() == [list(range(FEW))] * 2


def test_a_row_of_nan_does_not_disturb_the_survey_of_others():
    logits = torch.randn(3, 300, generator=torch.Generator().manual_seed(1))
    right = survey(logits)
    logits[1] = torch.nan
    found = survey(logits)
    for row in (0, 2):
        assert torch.equal(found.top.ids[row], right.top.ids[row])
        assert found.log_z[row] == right.log_z[row]
    assert not np.isfinite(found.log_z[1].item())


def test_what_is_compiled_is_kept_where_the_sources_say():
    from generate.compiled import cache_folder

    assert cache_folder() in likeliest.survey.stats.cache_path or "NUMBA_CACHE_DIR" in os.environ


def test_what_others_than_the_user_could_have_put_there_is_never_run(tmp_path, monkeypatch):
    from generate.compiled import cache_folder

    monkeypatch.setattr("os.access", lambda *_: False)  # the code is root's, or on a disk that is only read
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Path(cache_folder()).is_relative_to(tmp_path / "cache")
    assert cache_folder() == cache_folder(), "kept for the next start"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = Path(cache_folder()), Path(cache_folder())
    assert first != second
    assert first.parent == tmp_path
    assert first.stat().st_mode & 0o077 == 0


def test_a_change_of_any_compiled_function_is_noticed():
    """Else machine code of what a file said before would go on being used, without a word."""
    from generate.compiled import KERNELS

    kernels = {file for kernel in KERNELS for file in (ROOT / "generate").glob(kernel)}
    compiled = re.compile(r"^@(exactly|small|searching|intrinsic|njit|jit)\b|^(from|import) numba\b", re.M)
    found = {file for file in (ROOT / "generate").rglob("*.py") if compiled.search(file.read_text())}
    assert len(found) > 4
    assert found <= kernels


@pytest.mark.parametrize(("inputs", "outputs"), [(128, 96), (30, 101), (7, 32), (4, 1)])
@pytest.mark.parametrize("turned", [False, True], ids=["as a product has it", "as an embedding has it"])
def test_weights_are_rounded_and_laid_out_as_numpy_would_do_it(inputs, outputs, turned):
    weight = np.random.default_rng(3).standard_normal((inputs, outputs)).astype(np.float32)
    weight[:, outputs // 2] = 0
    linear = empty_linear(2, inputs, outputs)
    fill_linear(linear, 1, np.ascontiguousarray(weight.T).T if turned else weight, None)
    scale = np.maximum(np.abs(weight).max(0) / np.float32(127), np.float32(1e-20))
    levels = np.zeros((-(-inputs // 4) * 4, -(-outputs // 32) * 32), np.int8)
    levels[:inputs, :outputs] = np.rint(weight / scale)
    panels = levels.reshape(-1, 4, levels.shape[1] // 32, 32)[:, np.argsort(PLACES)].transpose(2, 0, 3, 1)
    assert np.array_equal(linear.weight[1].reshape(panels.shape), panels)
    assert np.array_equal(linear.scale[1, :outputs], scale)
    assert np.array_equal(linear.start[1], -128 * levels.sum(0, dtype=np.int32))
    assert not linear.weight[0].any()


class Counted(dict):
    """Tensors that count how often each is asked for."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.asked = Counter()

    def __getitem__(self, name):
        self.asked[name] += 1
        return super().__getitem__(name)


def test_a_model_in_int8_asks_for_each_tensor_once_and_keeps_none():
    config = Config(**SMALL)
    tensors = Counted({name: torch.ones(shape) for name, shape in tensor_shapes(config).items()})
    held = [weakref.ref(tensor) for tensor in tensors.values()]
    model = new_model(config, tensors, "int8")
    assert tensors.asked == dict.fromkeys(tensors, 1)
    tensors.clear()
    gc.collect()
    assert model.precision == "int8"
    assert not any(one() for one in held)


def test_an_embedding_in_float16_is_added_as_numpy_reads_it():
    halves = np.array([0, -0.0, 1, -2.5, 6e-8, -6e-5, 65504, 1 / 3, -1e-3], np.float16)
    place, x = np.arange(len(halves), dtype=np.float32), np.empty(len(halves), np.float32)
    embed(halves.view(np.uint16), place, x)
    assert np.array_equal(x, halves.astype(np.float32) + place)
