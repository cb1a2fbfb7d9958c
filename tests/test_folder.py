"""The contract of models/NAME: what keeps it is served, all else is refused by one sentence, and nothing else breaks."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from conftest import edit_json, finished
from safetensors.numpy import load_file, save_file

from generate import OPTIONS, LocalEngine, Refusal, Request, check_folder, find_model, list_models, parse_sampling
from generate.folders import download
from generate.transformer.model import load_model


def edit_weights(folder: Path, change: Callable[[dict], object]) -> None:
    """Let `change` alter the tensors (named with `transformer.`) and write them back."""
    tensors = load_file(folder / "model.safetensors")
    tensors = change(tensors) or tensors
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def load(folder: Path):
    return load_model(check_folder(folder), torch.device("cpu"), "float32")


def config(**changes):
    return lambda folder: edit_json(folder / "config.json", **changes)


def generation(**changes):
    return lambda folder: edit_json(folder / "generation_config.json", **changes)


def weights(**tensors):
    """Add or replace tensors; `__` stands for a dot."""
    return lambda folder: edit_weights(folder, lambda old: old | {n.replace("__", "."): t for n, t in tensors.items()})


def without(name):
    return lambda folder: edit_weights(folder, lambda tensors: {n: t for n, t in tensors.items() if n != name})


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def gone(name):
    return lambda folder: (folder / name).unlink()


def tokenizer(tokens, special=()):
    """Put a tokenizer with just these tokens in place of the real one."""

    def change(folder):
        new = tokenizers.Tokenizer(tokenizers.models.BPE({token: n for n, token in enumerate(tokens)}, []))
        new.add_special_tokens(list(special))
        new.save(str(folder / "tokenizer.json"))

    return change


def vocab_and_merges(vocab, merges):
    def change(folder):
        gone("tokenizer.json")(folder)
        text("vocab.json", json.dumps(vocab))(folder)
        text("merges.txt", merges)(folder)

    return change


def cut_short(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 938\n"


def save_old(file: Path, zipped: bool) -> None:
    """The weights as PyTorch writes them, under the name of safetensors."""
    torch.save({"transformer.ln_f.bias": torch.zeros(32)}, file, _use_new_zipfile_serialization=zipped)


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def indexed(places):
    """An index in place of the file."""

    def change(folder):
        sharded(folder)
        text("model.safetensors.index.json", json.dumps({"weight_map": places}))(folder)

    return change


def old_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def old_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model-00001-of-00002.bin")


VECTOR, MATRIX = np.zeros(32, "f4"), np.zeros((32, 32), "f4")
BREAKAGES = {
    "missing tensor": (without("transformer.h.1.mlp.c_fc.bias"), r"lack h\.1\.mlp\.c_fc\.bias; config.json and"),
    "missing layer": (config(n_layer=3), r"lack h\.2\..* and 11 more"),
    "unexpected tensor": (weights(transformer__h__2__ln_1__bias=VECTOR), r"have the unexpected h\.2\.ln_1\.bias;"),
    "unexpected tensor at the top": (weights(score__weight=VECTOR), r"have the unexpected score\.weight;"),
    "wrong shape": (weights(transformer__h__0__attn__c_attn__weight=MATRIX), r"has shape \[32, 32\] where .* \[32, 96\]"),
    "head of another shape": (weights(lm_head__weight=MATRIX), r"lm_head\.weight has shape \[32, 32\]"),
    "whole numbers": (weights(transformer__ln_f__bias=np.zeros(32, "i4")), r"ln_f\.bias is stored as I32; save"),
    "n_head does not divide": (config(n_head=5), "n_head 5 does not divide n_embd 32"),
    "tokenizer of one token": (tokenizer(["a"]), "its tokenizer has 1 token; copy the real"),
    "tokenizer of no token": (tokenizer([]), "its tokenizer has 0 token; copy the real"),
    "no tokenizer": (gone("tokenizer.json"), "no tokenizer.json, and no vocab.json with merges.txt"),
    "tokenizer too large": (tokenizer(map(chr, range(0x4E00, 0x4F2D))), "goes up to id 300 but the embedding has 300"),
    "added tokens too many": (tokenizer("ab", [f"<{n}>" for n in range(299)]), "goes up to id 300 but"),
    "tokenizer not JSON": (text("tokenizer.json", "hello"), "its tokenizer cannot be read"),
    "tokenizer not of bytes": (tokenizer(["▁the", "▁king"]), "not a byte-level BPE"),
    "merges not merges": (vocab_and_merges({"a": 0, "b": 1}, "a b c\n"), "its tokenizer cannot be read"),
    "merges of another vocabulary": (vocab_and_merges({"a": 0, "b": 1}, "a b\n"), "its tokenizer cannot be read"),
    "no config": (gone("config.json"), "config.json is missing; copy it"),
    "config not JSON": (text("config.json", "{'n_layer': 2}"), "config.json is not JSON"),
    "config not UTF-8": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), "config.json is not JSON"),
    "config nested too deep": (text("config.json", "[" * 100_000), "config.json is not JSON"),
    "config a list": (text("config.json", "[1]"), "config.json must hold a JSON object, not a list"),
    "another model_type": (config(model_type="llama"), r"is a LLaMA \(model_type 'llama'\), and no GPT-2; other"),
    "a model_type that nobody knows": (config(model_type="mine"), "model_type is 'mine'; only gpt2"),
    "size of zero": (config(n_layer=0), "n_layer in config.json must be a whole number from 1 to 10,000, not 0"),
    "size in quotes": (config(n_embd="32"), "n_embd in config.json must be a whole number from 1 to 1,000,000, not '32'"),
    "size left out": (config(vocab_size=None), "vocab_size in config.json must be a whole number from 1 to 10,000,000, not None"),
    "unknown activation": (config(activation_function="mish"), "activation_function 'mish' is unknown; known are gelu_new"),
    "cross attention": (config(add_cross_attention=True), "cross-attention"),
    "no weights": (gone("model.safetensors"), "model.safetensors is missing; weights in another form"),
    "weights cut short": (cut_short, "model.safetensors is damaged or cut short"),
    "weights are text": (text("model.safetensors", "once upon a time, and so on"), "is damaged or cut"),
    "weights are a pointer": (text("model.safetensors", POINTER), r"model\.safetensors is a Git LFS pointer, not the file"),
    "weights are a page": (text("model.safetensors", "\n <!DOCTYPE html><html>"), r"model\.safetensors is a web page, not"),
    "weights are an old pickle": (lambda f: save_old(f / "model.safetensors", False), "of PyTorch's under another name; call"),
    "weights are a newer pickle": (lambda f: save_old(f / "model.safetensors", True), "of PyTorch's under another name; call"),
    "a shard is missing": (sharded, r"model-00002-of-00002\.safetensors is missing, one of the 2 files of its weights"),
    "an index that leads out": (indexed({"wte.weight": "../good/model.safetensors"}), r"index\.json names '\.\./good/model\."),
    "an index of nothing": (indexed({}), r"model\.safetensors\.index\.json does not say which tensor is in which file"),
    "a shard that the index lists": (indexed({"wte.weight": "a.safetensors"}), r"a\.safetensors is missing, one of the 1 fi"),
    "weights of PyTorch": (old_weights, r"in pytorch_model\.bin, which is of PyTorch; `python -m convert .*broken models/NAME`"),
    "shards of PyTorch": (old_shards, r"in pytorch_model-00001-of-00002\.bin, which is of PyTorch; `python -m convert"),
    "a name twice": (weights(module__transformer__wpe__weight=np.zeros((64, 32), "f4")), r"are both wpe\.weight; keep one"),
    "biases of some layers": (without("transformer.h.0.attn.c_attn.bias"), r"weights lack h\.0\.attn\.c_attn\.bias;"),
    "config is a pointer": (text("config.json", POINTER), r"config\.json is a Git LFS pointer, not the file itself"),
    "tokenizer is a page": (text("tokenizer.json", "<html>"), r"tokenizer\.json is a web page, not the file itself"),
    "merges are a page": (vocab_and_merges({"a": 0, "b": 1}, "<!DOCTYPE html>"), r"merges\.txt is a web page, not the file"),
    "config of OpenAI": (config(vocab_size=None, n_vocab=300), r"the names of OpenAI's hparams\.json \(n_vocab, n_ctx\)"),
    "a flag in words": (config(scale_attn_weights="false"), "scale_attn_weights in config.json must be true or false, not 'fa"),
    "weights are empty": (text("model.safetensors", ""), "model.safetensors is damaged or cut short"),
    "end token too high": (generation(eos_token_id=300), "the end token 300 must be a token id below 300"),
    "end token in words": (generation(eos_token_id="<|endoftext|>"), "the end token '<|endoftext|>' must be a token id"),
    "end token of the manifest": (text("rubric.json", '{"end": {"token_id": -1}}'), "the end token -1 must be"),
    "manifest of another format": (text("rubric.json", '{"format": 2}'), "rubric.json is not of format 1; delete it"),
    "manifest's end not an object": (text("rubric.json", '{"end": 0}'), "rubric.json is not of format 1"),
    "manifest a list": (text("rubric.json", "[]"), "rubric.json must hold a JSON object, not a list"),
    "one of several end tokens too high": (generation(eos_token_id=[0, 300]), "the end token 300 must be a token id below"),
}  # fmt: skip


@pytest.mark.parametrize(("breakage", "sentence"), BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_folder_is_listed_with_its_reason_and_the_others_are_unaffected(folder, breakage, sentence):
    breakage(folder)
    with pytest.raises(Refusal, match=sentence):
        check_folder(folder)
    broken, good = list_models(folder.parent)
    assert (broken.name, broken.folder) == ("broken", None)
    with pytest.raises(Refusal, match=f"The model broken cannot be used: .*{sentence}"):
        find_model(folder.parent, "broken")
    assert (good.name, good.problem, good.folder) == ("good", None, find_model(folder.parent, "good"))


JUNK = [None, [], [None], [[0]], [{}], {}, {"a": []}, -1, 0.5, 1e308, 10**400, float("nan"), float("inf"), "", "2", "ñ"]
SIZES = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"]
REST = ["n_ctx", "model_type", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "eos_token_id"]
STRICT = [*SIZES, "n_inner", "layer_norm_epsilon", "activation_function"]
FINE = [("n_inner", None), ("layer_norm_epsilon", 0.5)]
GENERATION = ["max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "eos_token_id"]
KEYS = [
    *(("config.json", key) for key in [*STRICT, *REST, "add_cross_attention"]),
    *(("generation_config.json", key) for key in GENERATION),
    *(("rubric.json", key) for key in ["format", "source", "fingerprint", "end", "token_id"]),
]


@pytest.mark.parametrize(("file", "key"), KEYS, ids=[f"{file[:6]}-{key}" for file, key in KEYS])
def test_a_junk_value_is_refused_or_does_no_harm(folder, file, key):
    before = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    harm = []
    for junk in [*JUNK, True, False]:
        (folder / file).write_text(json.dumps(before | ({"end": {key: junk}} if key == "token_id" else {key: junk})))
        try:
            check_folder(folder).fingerprint()
            load(folder)
        except Refusal:
            continue
        except Exception as error:
            harm.append((junk, type(error).__name__))
        if key in STRICT and (key, junk) not in FINE:
            harm.append((junk, "taken"))
    assert harm == []


def test_many_who_want_a_fingerprint_at_once_have_the_weights_read_once(folder, monkeypatch):
    whole, read, another = check_folder(folder), [], threading.Barrier(2)

    def digest(stream, name, real=hashlib.file_digest):
        read.append(stream.name)
        with suppress(threading.BrokenBarrierError):
            another.wait(0.2)
        return real(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    with ThreadPoolExecutor(8) as many:
        found = set(many.map(lambda _: whole.fingerprint(), range(8)))
    assert (len(found), read) == (1, [str(folder / "model.safetensors")])


def test_a_manifest_with_a_wrong_fingerprint_is_refused_when_the_weights_are_read(folder):
    right = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert check_folder(folder).fingerprint() == right
    text("rubric.json", json.dumps({"format": 1, "fingerprint": right, "source": "a test"}))(folder)
    assert find_model(folder.parent, "broken").fingerprint() == right
    assert find_model(folder.parent, "broken").source == "a test"
    weights(transformer__ln_f__bias=VECTOR + 1)(folder)
    with pytest.raises(Refusal, match=r"model\.safetensors is not the file that rubric.json describes"):
        find_model(folder.parent, "broken").fingerprint()


def test_a_head_that_repeats_the_embedding_is_the_embedding(folder):
    embedding = load_file(folder / "model.safetensors")["transformer.wte.weight"]
    x = torch.ones(1, 32)
    without_head = load(folder).head(x)
    weights(lm_head__weight=embedding)(folder)
    assert torch.equal(load(folder).head(x), without_head)


def test_names_without_their_prefix_and_old_mask_buffers_load_as_the_same_model(folder):
    expected = load(folder)
    edit_weights(folder, lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()})
    weights(h__0__attn__bias=np.ones((1, 1, 64, 64), "u1"), h__0__attn__masked_bias=np.array(-1e4, "f4"))(folder)
    model = load(folder)
    x = torch.ones(1, 32)
    assert torch.equal(model.wte, expected.wte)
    assert torch.equal(model.blocks[1].qkv(x), expected.blocks[1].qkv(x))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(folder, number):
    weights(transformer__h__1__ln_2__weight=np.full(32, number, "f4"))(folder)
    with pytest.raises(Refusal, match=r"h\.1\.ln_2\.weight holds NaN or infinity"):
        load(folder)


BEYOND = {"top_k": -1, "temperature": 10, "top_p": 1.5, "repetition_penalty": 0, "max_new_tokens": "many"}
BEYOND |= {"min_p": 2, "dry_multiplier": -1, "xtc_probability": True}


@pytest.mark.parametrize(("name", "value"), BEYOND.items())
def test_a_default_beyond_the_limits_is_left_out_and_the_list_says_so(folder, name, value):
    generation(**{"temperature": 0.5, "top_k": 7, "top_p": 0.9} | {name: value})(folder)
    found = find_model(folder.parent, "broken")
    assert dict(found.defaults) == {
        k: v for k, v in {"temperature": 0.5, "top_k": 7, "top_p": 0.9}.items() if k != name
    }
    (remark,) = map(str, found.remarks)
    assert remark.startswith(f"generation_config.json is not obeyed in this: {name} must be a")
    assert repr(str(value)) in remark


def test_a_file_in_another_encoding_is_named_once_with_one_thing_to_do(folder):
    (folder / "generation_config.json").write_bytes('{"note": "déjà vu, très élégant"}'.encode("cp1252"))
    with pytest.raises(Refusal) as refused:
        check_folder(folder)
    said = str(refused.value)
    assert said.startswith("broken: generation_config.json, line 1: byte 0xe9 is not utf-8; ")
    assert said.count("generation_config.json") == 1
    assert "is not JSON" not in said


def test_whatever_a_tokenizer_is_read_from_is_asked_of_the_hub(monkeypatch, tmp_path):
    asked = []

    def snapshot(*args, allow_patterns, **more):
        asked.extend(allow_patterns)
        if len(asked) > 1:
            raise OSError("enough")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr(download, "require_network", lambda endpoint: None)
    monkeypatch.setattr(download, "require_room", lambda *given: None)
    with pytest.raises(Refusal, match="Fetching gpt2 failed: enough"):
        download.fetch("gpt2", tmp_path)
    wanted = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"}
    assert wanted | {"added_tokens.json", "special_tokens_map.json"} <= set(asked)


def test_of_a_hub_model_that_is_no_gpt_2_nothing_but_its_config_is_fetched(monkeypatch, tmp_path):
    asked = []

    def snapshot(name, local_dir, allow_patterns):
        asked.extend(allow_patterns)
        (local_dir / "config.json").write_text('{"model_type": "llama"}')

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr(download, "require_network", lambda endpoint: None)
    monkeypatch.setattr(download, "require_room", lambda *given: None)
    with pytest.raises(Refusal, match=r"^them/large is a LLaMA "):
        download.fetch("them/large", tmp_path)
    assert asked == ["config.json"]
    assert list(tmp_path.iterdir()) == []


def test_a_hub_model_of_old_weights_is_kept_for_convert_and_the_sentence_says_how(monkeypatch, tmp_path, model):
    def snapshot(name, local_dir, allow_patterns):
        (local_dir / ".cache").mkdir(exist_ok=True)
        if "config.json" in allow_patterns:
            (local_dir / "config.json").write_bytes((model / "config.json").read_bytes())
        else:
            assert "pytorch_model.bin" in allow_patterns
            (local_dir / "pytorch_model.bin").write_bytes(b"weights")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr(download, "require_network", lambda endpoint: None)
    monkeypatch.setattr(download, "require_room", lambda *given: None)
    with pytest.raises(Refusal, match=r"`python -m convert .*/\.zh-pytorch .*/zh` makes a model of them"):
        download.fetch("uer/gpt2-chinese", tmp_path, "zh")
    assert {path.name for path in (tmp_path / ".zh-pytorch").iterdir()} == {"config.json", "pytorch_model.bin"}
    assert list_models(tmp_path) == []


def test_a_model_may_bring_a_default_for_every_option_that_is_not_a_matter_of_the_text_or_the_person(folder):
    others = {"seed": 3, "samples": 2, "n_keep": 5, "end_at_sentence": 64}
    wanted = {option.name: option.high for option in OPTIONS if option.name not in others}
    generation(**wanted, **others, typical_p=0.9)(folder)
    found = find_model(folder.parent, "broken")
    assert dict(found.defaults) == wanted
    assert found.remarks == ()
    assert parse_sampling({}, dict(found.defaults)).min_p == wanted["min_p"]


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_each_of_several_end_tokens_counts(folder, where):
    for file in ("config.json", "generation_config.json"):
        edit_json(folder / file, eos_token_id=[0, 12] if file == where else None)
    found = check_folder(folder)
    assert (found.end_ids, found.end_id) == ((0, 12), 0)
    for told, ends in [(0, (0, 12)), (12, (0, 12)), (5, (5,)), (None, ())]:
        text("rubric.json", json.dumps({"format": 1, "end": {"token_id": told}}))(folder)
        assert check_folder(folder).end_ids == ends


def test_a_text_ends_by_whichever_end_token_comes_first(model, tmp_path):
    """The same seed with one end token and with two: it stops at the first of either."""
    folder = Path(shutil.copytree(model, tmp_path / "ends" / "one"))
    engine = LocalEngine(folder.parent, device="cpu", precision="float32").start(check_folder(folder))
    try:
        whole = written(engine, check_folder(folder))
        end = whole[5]
        two = Path(shutil.copytree(model, tmp_path / "ends" / "two"))
        edit_json(two / "generation_config.json", eos_token_id=[0, end])
        assert written(engine, check_folder(two)) == whole[: whole.index(end) + 1]
    finally:
        engine.close()


def written(engine: LocalEngine, folder) -> list[int]:
    sampling = parse_sampling({"max_new_tokens": 20, "seed": 3, "temperature": 1, "top_k": 0})
    request = Request(folder, sampling)
    return finished(engine.submit(request, request.new_log((5, 6)))).samples[0].read()["id"].tolist()
