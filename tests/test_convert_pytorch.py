"""PyTorch's old files convert by the same command, and nothing in them is ever run."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from conftest import TRICKY, edit_json
from safetensors.torch import load_file

from convert.folder import convert
from convert.source import find_source
from convert.to_tensorflow import to_checkpoint
from generate import Refusal, check_folder, logits_of


def old_port(model: Path, folder: Path, rename) -> Path:
    """The weights of a model as an old pickle, with the files beside it that such folders have."""
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((model / name).read_bytes())
    tensors = {rename(name): tensor for name, tensor in load_file(model / "model.safetensors").items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def short(name: str) -> str:
    """As the first port named them: no prefix, and TensorFlow's letters."""
    name = name.removeprefix("transformer.")
    letter = {"weight": "g" if "ln_" in name else "w", "bias": "b"}[name.rsplit(".", 1)[1]]
    return name if name.startswith(("wte", "wpe")) else f"{name.rsplit('.', 1)[0]}.{letter}"


@pytest.mark.parametrize("rename", [lambda name: name, lambda name: name.removeprefix("transformer."), short])
def test_every_spelling_gives_the_same_bits(tmp_path, model, rename):
    source = old_port(model, tmp_path / "old", rename)
    convert(find_source(source), tmp_path / "made", check=False)
    first, last = load_file(model / "model.safetensors"), load_file(tmp_path / "made" / "model.safetensors")
    assert all(torch.equal(first[name], last[name]) for name in first)
    folders = check_folder(model), check_folder(tmp_path / "made")
    assert folders[0].encode_prompt(TRICKY) == folders[1].encode_prompt(TRICKY)
    assert folders[1].config.n_head == folders[0].config.n_head


def test_the_certificate_holds_for_pytorch_too(tmp_path, model):
    made = convert(find_source(old_port(model, tmp_path / "old", short)), tmp_path / "made")
    assert made.certificate.largest_difference < 1e-3


def test_masks_are_skipped_and_a_tied_head_is_understood(tmp_path, model):
    source = old_port(model, tmp_path / "old", lambda name: name)
    tensors = torch.load(source / "pytorch_model.bin", weights_only=True)
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    torch.save(tensors, source / "pytorch_model.bin")
    convert(find_source(source), tmp_path / "made", check=False)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    torch.save(tensors, source / "pytorch_model.bin")
    convert(find_source(source), tmp_path / "other", check=False)
    both = (load_file(tmp_path / name / "model.safetensors") for name in ("made", "other"))
    assert set.symmetric_difference(*map(set, both)) == {"lm_head.weight"}
    assert not json.loads((tmp_path / "other" / "config.json").read_text())["tie_word_embeddings"]


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "burst",)

    file = tmp_path / "pytorch_model.bin"
    for content in (pickle.dumps(Bomb()), pickle.dumps({"wte.weight": Bomb()}), b"", b"nonsense"):
        file.write_bytes(content)
        with pytest.raises(Refusal, match="cannot be read as PyTorch weights"):
            convert(find_source(file), tmp_path / "made", check=False)
    torch.save({"a": Bomb()}, file)
    with pytest.raises(Refusal, match="cannot be read as PyTorch weights"):
        convert(find_source(file), tmp_path / "made", check=False)
    torch.save([1, 2], file)
    with pytest.raises(Refusal, match="something else"):
        convert(find_source(file), tmp_path / "made", check=False)
    assert not (tmp_path / "burst").exists()


def test_what_a_pickle_holds_is_named_without_torch_s_advice_on_how_to_run_it(tmp_path, recwarn):
    file = tmp_path / "pytorch_model.bin"
    torch.save(torch.nn.Linear(2, 2), file)
    with pytest.raises(Refusal, match=r"it holds torch\.nn\.modules\.linear\.Linear, and only tensors are ever"):
        convert(find_source(file), tmp_path / "made", check=False)
    contents = {pickle.dumps({"a": print}): "more than tensors", b"nonsense": "damaged", b"": "damaged"}
    for content, sentence in contents.items():
        file.write_bytes(content)
        with pytest.raises(Refusal, match=sentence) as refused:
            convert(find_source(file), tmp_path / "made", check=False)
        assert not {"weights_only", "torch.load", "http", "\x1b"} & set(str(refused.value).replace(",", " ").split())
    assert not recwarn.list


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<html>", "is a web page"),
        ((10).to_bytes(8, "little") + b'{"a": {}}', "is a safetensors file under another name"),
    ],
)
def test_what_lies_in_the_place_of_a_pytorch_file_is_named(tmp_path, content, sentence):
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(Refusal, match=rf"pytorch_model\.bin {sentence}"):
        convert(find_source(tmp_path), tmp_path / "made", check=False)


@pytest.mark.parametrize("by", ["file", "folder"])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "pytorch_model-00001-of-00002.bin",
            r"pytorch_model-00002-of-00002\.bin is missing, one of the 2 files of a model",
        ),
        ("model-00001-of-00002.safetensors", "is (of )?a model of `transformers` already"),
    ],
)
def test_a_lone_shard_is_called_one(tmp_path, name, sentence, by):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(Refusal, match=sentence):
        convert(find_source(tmp_path / name if by == "file" else tmp_path), tmp_path / "made")


@pytest.mark.parametrize(("eos", "ends"), [(14, (14,)), ([14, 0], (14, 0)), (None, (0,))])
@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_the_end_tokens_of_the_folder_stay(tmp_path, model, eos, ends, where):
    from transformers import GenerationConfig

    source = old_port(model, tmp_path / "old", lambda name: name)
    (source / "generation_config.json").write_text('{"temperature": 0.7, "min_p": 0.1, "xtc_probability": 0.5}')
    edit_json(source / "config.json", eos_token_id=None, bos_token_id=3)
    edit_json(source / where, eos_token_id=eos)
    convert(find_source(source), tmp_path / "made", check=False)
    made = check_folder(tmp_path / "made")
    assert made.end_ids == ends
    assert dict(made.defaults) == {"temperature": 0.7, "min_p": 0.1, "xtc_probability": 0.5}
    theirs = GenerationConfig.from_pretrained(tmp_path / "made")
    assert (theirs.eos_token_id, theirs.bos_token_id) == (list(ends) if len(ends) > 1 else ends[0], 3)


def test_an_end_token_without_a_row_is_refused(tmp_path, model):
    source = old_port(model, tmp_path / "old", lambda name: name)
    edit_json(source / "config.json", eos_token_id=300)
    with pytest.raises(Refusal, match=r"eos_token_id beside pytorch_model\.bin must be a token id below 300, not 300"):
        convert(find_source(source), tmp_path / "made", check=False)


def test_a_model_that_does_not_scale_its_attention_stays_one(tmp_path, model):
    from transformers import GPT2LMHeadModel

    source = old_port(model, tmp_path / "old", lambda name: name)
    edit_json(source / "config.json", scale_attn_weights=False)
    made = convert(find_source(source), tmp_path / "made")
    assert made.certificate.largest_difference < 1e-3
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "made")
    with torch.no_grad():
        logits = theirs(torch.tensor([[5, 6, 7, 8]])).logits[0].numpy()
    assert not theirs.config.scale_attn_weights
    assert abs(logits_of(check_folder(tmp_path / "made"), [[5, 6, 7, 8]])[0] - logits).max() < 1e-3


def test_a_config_of_another_kind_of_model_is_refused(tmp_path, model):
    source = old_port(model, tmp_path / "old", lambda name: name)
    for changes in ({"model_type": "gpt_neo"}, {"add_cross_attention": True}):
        edit_json(source / "config.json", **{"model_type": "gpt2"} | changes)
        with pytest.raises(Refusal, match=r"config\.json is of another model than a plain GPT-2"):
            convert(find_source(source), tmp_path / "made", check=False)


@pytest.mark.parametrize("special", [False, True])
def test_added_tokens_are_added_tokens_afterwards(tmp_path, model, special):
    from transformers import AutoTokenizer

    source = old_port(model, tmp_path / "old", lambda name: name)
    bpe = json.loads((source / "tokenizer.json").read_text())["model"]
    size = len(bpe["vocab"]) - 1
    (source / "vocab.json").write_text(json.dumps({t: i for t, i in bpe["vocab"].items() if i < size}))
    (source / "merges.txt").write_text("\n".join(" ".join(merge) for merge in bpe["merges"][:-1]))
    (source / "tokenizer.json").unlink()
    (source / "added_tokens.json").write_text(json.dumps({"[NEW LINE]": size}))
    if special:
        (source / "special_tokens_map.json").write_text('{"sep_token": "[NEW LINE]"}')
    convert(find_source(source), tmp_path / "made", check=False)
    made = check_folder(tmp_path / "made")
    assert made.tokenizer.vocabulary.tokens[size] == (b"" if special else b"[NEW LINE]")
    theirs = [AutoTokenizer.from_pretrained(folder) for folder in (source, tmp_path / "made")]
    ids = [tokenizer.encode("the old[NEW LINE]king") for tokenizer in theirs]
    assert size in ids[0]
    assert ids[0] == ids[1]
    (tmp_path / "made" / "tokenizer.json").unlink()
    assert check_folder(tmp_path / "made").tokenizer.vocabulary.tokens == made.tokenizer.vocabulary.tokens
    to_checkpoint(made, tmp_path / "back")
    convert(find_source(tmp_path / "back"), tmp_path / "again", check=False)
    assert check_folder(tmp_path / "again").tokenizer.vocabulary.tokens == made.tokenizer.vocabulary.tokens


def test_a_tensor_that_claims_more_than_is_stored_is_refused_before_it_is_made(tmp_path):
    torch.save({"wte.weight": torch.zeros(1).expand(10**13)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Refusal, match="stored whole"):
        convert(find_source(tmp_path), tmp_path / "made", check=False)
