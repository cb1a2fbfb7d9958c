"""Every shape in which a GPT-2 of `transformers` is found: it loads as it is, and says what `transformers` says of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Writer, edit_json, started
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from convert.folder import convert
from convert.source import find_source
from generate import LocalEngine, Refusal, check_folder
from generate.transformer.model import load_model

IDS = [5, 17, 3, 99, 250, 44, 44, 8, 120, 61]
MOST = {"float32": 1e-4, "bfloat16": 0.15, "int8": 0.15}  # of a logit; those of the small models go up to about 6
KINDS = {
    "gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "silu": {"activation_function": "silu"},
    "pytorch's tanh": {"activation_function": "gelu_pytorch_tanh"},
    "a narrow middle": {"n_inner": 40},
    "attention that is not scaled": {"scale_attn_weights": False},
    "attention scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "as Mistral's of Stanford": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    "as Cerebras-GPT": {"activation_function": "gelu", "n_inner": 128, "layer_norm_epsilon": 1e-5},
    "a head of its own": {"tie_word_embeddings": False},
}


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """A model's tokenizer and config, for weights of another shape."""
    (tmp_path / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    return tmp_path


def saved(folder: Path, *, max_shard_size: str = "1GB", dtype=torch.float32, **changes) -> GPT2LMHeadModel:
    """A random model of such a config, saved by `transformers`."""
    shape = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    torch.manual_seed(7)
    made = GPT2LMHeadModel(GPT2Config(**shape | changes, bos_token_id=0, eos_token_id=0, initializer_range=0.2))
    with torch.no_grad():  # the zeros and ones that it begins with would hide a bias or a norm in the wrong place
        for name, value in made.named_parameters():
            if value.dim() == 1:
                value.add_(torch.randn_like(value) * 0.1)
            elif name == "lm_head.weight":
                value.mul_(0.5)
    made.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    return made.float().eval()


def theirs(model: GPT2LMHeadModel) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0].numpy()


def ours(folder: Path, precision: str = "float32") -> np.ndarray:
    """Logits of the engine's own pass in a precision."""
    with torch.inference_mode():
        model = load_model(check_folder(folder), torch.device("cpu"), precision)
        prefix = model.new_cache(1, 0).new_prefix(len(IDS))
        return model.logits(model.hidden([(prefix, torch.tensor(IDS), torch.arange(len(IDS)))])).numpy()


def rewritten(folder: Path, change) -> None:
    """Let `change` make other tensors of those of model.safetensors."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_config_gives_transformers_logits_in_every_precision(folder, kind):
    expected = theirs(saved(folder, **KINDS[kind]))
    off = {precision: float(abs(ours(folder, precision) - expected).max()) for precision in MOST}
    assert all(off[precision] < most for precision, most in MOST.items()), off


def test_a_head_of_its_own_counts_even_where_the_config_denies_it(folder):
    expected = theirs(saved(folder, tie_word_embeddings=False))
    edit_json(folder / "config.json", tie_word_embeddings=True)  # `transformers` does not tie them then, and warns
    assert abs(ours(folder) - expected).max() < 1e-4


@pytest.mark.parametrize("index", [True, False], ids=["with its index", "without it"])
def test_shards_are_one_model(folder, index):
    expected = theirs(saved(folder, max_shard_size="50KB"))
    assert len(check_folder(folder).weights) > 2
    whole = check_folder(folder).fingerprint()
    if not index:
        (folder / "model.safetensors.index.json").unlink()
    assert abs(ours(folder) - expected).max() < 1e-4
    assert check_folder(folder).fingerprint() == whole
    last = check_folder(folder).weights[-1]
    save_file({name: value + 1 for name, value in load_file(last).items()}, last, {"format": "pt"})
    assert check_folder(folder).fingerprint() != whole


def test_shards_write_on_the_page_s_engine(folder):
    saved(folder, max_shard_size="50KB", activation_function="silu", tie_word_embeddings=False)
    engine = started(LocalEngine(folder.parent, device="cpu", precision="int8").start(folder.name))
    try:
        assert len(Writer(engine).ids("the old king", folder.name, max_new_tokens=12, min_new_tokens=12)[0]) == 12
    finally:
        engine.close()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_sixteen_bits_are_taken_as_they_are(folder, dtype):
    expected = theirs(saved(folder, dtype=dtype))
    assert abs(ours(folder) - expected).max() < 1e-4


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_sixteen_bits_that_hold_no_number_are_refused_by_name(folder, dtype, number):
    saved(folder, dtype=dtype)
    where = "transformer.h.1.mlp.c_fc.weight"
    rewritten(folder, lambda tensors: tensors | {where: tensors[where].index_fill(1, torch.tensor(5), number)})
    with pytest.raises(Refusal, match=r"h\.1\.mlp\.c_fc\.weight holds NaN or infinity"):
        ours(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(Refusal, match="model/h1/mlp/c_fc/w holds NaN or infinity"):
        convert(find_source(folder / "pytorch_model.bin"), folder / "made", check=False)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module.", "_orig_mod.model."]
)
def test_names_with_a_trainer_s_prefix_are_the_same_model(folder, prefix):
    expected = theirs(saved(folder))
    rewritten(folder, lambda tensors: {prefix + name: value for name, value in tensors.items()})
    assert abs(ours(folder) - expected).max() < 1e-4


@pytest.mark.parametrize("kind", [".bias", "attn.c_attn.bias", "ln_f.bias", "ln_2.bias"])
def test_biases_that_no_layer_has_are_zeros(folder, kind):
    """`transformers` begins with zeros where a bias is not stored."""
    saved(folder)
    rewritten(folder, lambda tensors: {n: value for n, value in tensors.items() if not n.endswith(kind)})
    expected = theirs(GPT2LMHeadModel.from_pretrained(folder).eval())
    for precision, most in MOST.items():
        assert abs(ours(folder, precision) - expected).max() < most
    assert json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"
