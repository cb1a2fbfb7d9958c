"""What trainers leave converts by the same command: shards, prefixes, wrappings, untied heads, and nanoGPT's ckpt.pt."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from conftest import edit_json
from test_convert import run_convert
from test_shapes import IDS, saved, theirs
from transformers import GPT2LMHeadModel

from convert.characters import read_meta
from convert.folder import convert
from convert.source import find_source
from generate import Refusal, check_folder, logits_of

TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """A model's tokenizer, for weights of another shape."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "tokenizer.json").write_bytes((model / "tokenizer.json").read_bytes())
    return tmp_path / "old"


def old(folder: Path, change=lambda state: state, **config) -> GPT2LMHeadModel:
    """A random model as PyTorch wrote it before safetensors; `change` wraps its state dict, or gives it other names."""
    made = saved(folder, **config)
    (folder / "model.safetensors").unlink()
    torch.save(change(dict(made.state_dict())), folder / "pytorch_model.bin")
    return made


def difference(folder: Path, expected: torch.Tensor) -> float:
    return float(abs(logits_of(check_folder(folder), [IDS])[0] - expected).max())


def prefixed(prefix):
    return lambda state: {prefix + name: value for name, value in state.items()}


WRAPPINGS = {
    "DistributedDataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "both": prefixed("module._orig_mod."),
    "Lightning": lambda state: {"epoch": 3, "state_dict": prefixed("model.")(state), "optimizer_states": [{"step": 1}]},
    "a plain loop": lambda state: {"model_state_dict": state, "loss": 3.2, "optimizer_state_dict": {"lr": 1e-4}},
    "DeepSpeed": lambda state: {"module": state, "ds_version": "0.9"},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_whatever_a_trainer_puts_around_the_weights_is_taken_off(folder, tmp_path, wrapping):
    expected = theirs(old(folder, WRAPPINGS[wrapping]))
    convert(find_source(folder), tmp_path / "made", check=False)
    assert difference(tmp_path / "made", expected) < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        {"activation_function": "gelu", "n_inner": 48, "tie_word_embeddings": False},
        {"activation_function": "silu", "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        {"activation_function": "relu", "scale_attn_weights": False},
    ],
)
def test_other_arithmetic_is_certified_by_the_second_opinion_in_double_precision(folder, tmp_path, config):
    expected = theirs(old(folder, **config))
    made = convert(find_source(folder), tmp_path / "made")
    assert made.certificate.largest_difference < 1e-4
    assert difference(tmp_path / "made", expected) < 1e-4
    told = json.loads((tmp_path / "made" / "config.json").read_text())
    assert {name: told[name] for name in config if name in told} == {n: v for n, v in config.items() if n in told}
    assert set(config) - set(told) <= {"reorder_and_upcast_attn"}


@pytest.mark.parametrize("given", ["the folder", "the index", "a shard", "no index"])
def test_shards_of_pytorch_convert_as_one(folder, tmp_path, given):
    made = old(folder)
    state = list(made.state_dict().items())
    names = [f"pytorch_model-{n:05d}-of-00003.bin" for n in (1, 2, 3)]
    for n, name in enumerate(names):
        torch.save(dict(state[n::3]), folder / name)
    places = {key: names[n % 3] for n, (key, _) in enumerate(state)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "pytorch_model.bin").unlink()
    if given == "no index":
        (folder / "pytorch_model.bin.index.json").unlink()
    source = {"the index": folder / "pytorch_model.bin.index.json", "a shard": folder / names[1]}.get(given, folder)
    convert(find_source(source), tmp_path / "made", check=False)
    assert difference(tmp_path / "made", theirs(made)) < 1e-4
    (folder / names[2]).unlink()
    with pytest.raises(Refusal, match=r"pytorch_model-00003-of-00003\.bin is missing, one of the 3 files"):
        convert(find_source(source), tmp_path / "other", check=False)


def nanogpt(folder: Path, bias: bool = True, prefix: str = "_orig_mod.", **config) -> torch.Tensor:
    """nanoGPT's ckpt.pt of a random model, and its logits: exact GELU, Linear's [out, in], a head that is the embedding."""
    made = saved(folder, activation_function="gelu", **config)
    if not bias:
        with torch.no_grad():
            for name, value in made.named_parameters():
                value.mul_(not name.endswith(".bias"))
    state = {name: value for name, value in made.state_dict().items() if bias or not name.endswith(".bias")}
    state = {n: value.t().contiguous() if n.endswith(TURNED) else value for n, value in state.items()}
    c = made.config
    arguments = {
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_embd": c.n_embd,
        "block_size": c.n_positions,
        "bias": bias,
    }
    checkpoint = {
        "model": prefixed(prefix)(state),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "model_args": arguments | {"vocab_size": c.vocab_size, "dropout": 0.0},
        "iter_num": 2000,
        "best_val_loss": torch.tensor(1.47),
        "config": {"dataset": "shakespeare_char", "compile": True},
    }
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).unlink(missing_ok=True)
    torch.save(checkpoint, folder / "ckpt.pt")
    return theirs(made)


def meta(folder: Path, characters: str, **changes) -> None:
    """nanoGPT's meta.pkl."""
    folder.mkdir(exist_ok=True)
    ids = {character: n for n, character in enumerate(characters)}
    value = {"vocab_size": len(ids), "itos": {n: c for c, n in ids.items()}, "stoi": ids} | changes
    (folder / "meta.pkl").write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(("bias", "prefix"), [(True, "_orig_mod."), (False, "")])
def test_nanogpt_of_characters_is_the_model_it_was(folder, tmp_path, bias, prefix):
    expected = nanogpt(folder, bias, prefix)
    characters = (
        "".join(map(chr, range(0x4E00, 0x4E00 + 200))) + "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!🦊"
    )
    meta(folder, "".join(dict.fromkeys(characters)))
    made = convert(find_source(folder), tmp_path / "made")
    assert made.certificate.largest_difference < 1e-4
    assert difference(tmp_path / "made", expected) < 1e-4
    tokenizer = check_folder(tmp_path / "made").tokenizer
    text = "Once 丁\n三 🦊 foxes"
    assert tokenizer.vocabulary.bytes_of(tokenizer.encode(text)) == text.encode()
    assert len(tokenizer.encode(text)) == len(text)
    with pytest.raises(Refusal, match="cannot write every character"):
        tokenizer.encode("naïve")
    assert tokenizer.writable("na\u3000ïve\t丁") == "nave丁"


@pytest.mark.long
def test_nanogpt_with_the_official_vocabulary_may_be_padded(folder, tmp_path):
    expected = nanogpt(folder, vocab_size=50304, n_embd=8, n_head=2, n_layer=1)
    made = convert(find_source(folder / "ckpt.pt"), tmp_path / "made", check=False)
    assert (made.vocabulary.size, made.sizes.vocab_size, made.sizes.activation) == (50257, 50304, "gelu")
    assert difference(tmp_path / "made", expected) < 1e-4
    assert check_folder(tmp_path / "made").end_ids == (50256,)


def test_without_a_vocabulary_the_command_says_where_nanogpt_has_one(folder, tmp_path):
    nanogpt(folder)
    done = run_convert(folder, tmp_path / "made", "--no-check")
    assert (done.returncode, "nanoGPT's meta.pkl (data/NAME of the run)" in done.stdout) == (0, True), done.stderr
    meta(tmp_path / "data", "".join(map(chr, range(32, 332))))
    done = run_convert(folder, tmp_path / "made", "--no-check", "--force", "--vocab", tmp_path / "data")
    assert check_folder(tmp_path / "made").tokenizer.size == 300, done.stderr


class Bomb:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_meta_that_would_run_something_is_refused_before_it_does(tmp_path):
    meta(tmp_path, "ab", extra=Bomb(tmp_path / "burst"))
    with pytest.raises(Refusal, match=r"meta\.pkl holds .*, and nothing but dictionaries"):
        read_meta(tmp_path / "meta.pkl")
    assert not (tmp_path / "burst").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stoi": {"ab": 0}}, "no stoi and itos of single characters"),
        ({"stoi": {"\ud800": 0}, "itos": {0: "\ud800"}}, "no stoi and itos of single characters"),
        ({"stoi": None}, "no stoi and itos"),
        ({"stoi": {"a": [0]}, "itos": {}}, "no stoi and itos"),
        ({"stoi": {"a": 0, "b": "x"}, "itos": {0: "a", "x": "b"}}, "no stoi and itos"),
        ({"stoi": {}, "itos": {}}, "no stoi and itos"),
        ({"stoi": {"a": False}, "itos": {0: "a"}}, "no stoi and itos"),
        ({"stoi": {"a": 0}, "itos": {False: "a"}}, "do not belong together"),
        ({"stoi": {"a": 0}, "itos": {"x": "a"}}, "do not belong together"),
        ({"stoi": {"a": 0}, "itos": {0: ["a"]}}, "do not belong together"),
        ({"itos": {0: "a"}}, "do not belong together"),
        ({"stoi": {"a": 0, "b": 5}, "itos": {0: "a", 5: "b"}}, "do not belong together"),
    ],
)
def test_a_meta_that_is_no_vocabulary_is_refused(tmp_path, changes, sentence):
    meta(tmp_path, "ab", **changes)
    with pytest.raises(Refusal, match=sentence):
        read_meta(tmp_path / "meta.pkl")


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", pickle.dumps([1]), pickle.dumps({"stoi": {}})[:-4], b"\x80\x05\x8c\xff"]
)
def test_a_damaged_meta_is_refused(tmp_path, content):
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(Refusal, match=r"meta\.pkl"):
        read_meta(tmp_path / "meta.pkl")


def test_an_activation_that_nobody_knows_is_refused(folder, tmp_path):
    old(folder)
    edit_json(folder / "config.json", activation_function="mish")
    with pytest.raises(Refusal, match=r"activation_function in config\.json is 'mish'; known are gelu_new"):
        convert(find_source(folder), tmp_path / "made", check=False)
