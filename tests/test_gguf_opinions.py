"""What others make of a GGUF that we wrote: the gguf package's reader with `transformers`, and llama.cpp where it is there."""

import random
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from conftest import ROOT, TRICKY
from llama import llama_of
from transformers import GPT2Config, GPT2LMHeadModel

from convert.folder import convert
from convert.source import find_source
from convert.to_gguf import to_gguf
from generate import ModelFolder, check_folder, logits_of

STORYTELLER = ROOT / "models" / "storyteller"
NAMES = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "output": "lm_head"}
NAMES |= {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj"}
NAMES |= {"ffn_norm": "ln_2", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
TEXT = "Once upon a time there was a king who had three daughters, and the youngest"


def strings(count: int) -> list[str]:
    """Words, numbers, signs, blanks and other scripts in any order, and cut anywhere."""
    dice, pieces = random.Random(11), TRICKY.replace("<|endoftext|>", "").split(" ")
    pieces += [
        "don't",
        "we'LL",
        "1234567",
        "naïve",
        "Ünïcode",
        "…",
        "--",
        "\t\t",
        " \n ",
        "\n\n\n",
        "  ",
        "a\u0301",
        "日本語",
        "שלום",
    ]
    pieces += [*"abcXYZ019.,!?'\"()-_/\\ \n"]
    made = []
    for _ in range(count):
        text = "".join(dice.choice(pieces) + dice.choice(["", " ", "  ", "\n"]) for _ in range(dice.randint(1, 12)))
        made.append(text[dice.randint(0, 3) :])
    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, ModelFolder]:
    """The storyteller as a GGUF in f16, and as the model that this file is."""
    home = tmp_path_factory.mktemp("gguf")
    to_gguf(check_folder(STORYTELLER), home / "storyteller.gguf", "f16")
    convert(find_source(home / "storyteller.gguf"), home / "made", check=False)
    return home / "storyteller.gguf", check_folder(home / "made")


def read_tokenizer(reader: gguf.GGUFReader) -> tokenizers.ByteLevelBPETokenizer:
    """The tokenizer of a GGUF's own lists."""
    tokens, merges = (reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    vocab = {token: index for index, token in enumerate(tokens)}
    return tokenizers.ByteLevelBPETokenizer(vocab, [tuple(merge.split(" ")) for merge in merges])


def read_model(reader: gguf.GGUFReader) -> GPT2LMHeadModel:
    """The model of a GGUF's own numbers and tensors, as `transformers` computes it."""

    def told(key: str):
        return reader.fields[f"gpt2.{key}"].contents()

    state = {}
    for tensor in reader.tensors:
        *layer, part, kind = tensor.name.removeprefix("blk.").split(".")
        value = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        turned = layer and value.ndim == 2  # [out, in] there
        name = ".".join([*(["h", *layer] if layer else []), NAMES[part], kind])
        state[name if part == "output" else f"transformer.{name}"] = torch.tensor(value.T if turned else value)
    config = GPT2Config(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].contents()),
        n_positions=told("context_length"),
        n_embd=told("embedding_length"),
        n_layer=told("block_count"),
        n_head=told("attention.head_count"),
        n_inner=told("feed_forward_length"),
        layer_norm_epsilon=told("attention.layer_norm_epsilon"),
    )
    model = GPT2LMHeadModel(config).eval()
    lacking = model.load_state_dict(state, strict=False)
    assert (set(lacking.missing_keys) - {"lm_head.weight"}, lacking.unexpected_keys) == (set(), [])
    return model


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.tensor(np.asarray(logits), dtype=torch.float64), -1).numpy()


@pytest.mark.long
def test_the_package_s_reader_finds_the_ids_of_a_thousand_strings_and_the_same_log_probabilities(written):
    file, made = written
    reader, original = gguf.GGUFReader(file), check_folder(STORYTELLER)
    theirs = read_tokenizer(reader)
    texts = strings(1000)
    expected = [original.tokenizer.encode(text) for text in texts]
    assert [theirs.encode(text).ids for text in texts] == expected
    assert [made.tokenizer.encode(text) for text in texts] == expected
    ids = original.encode_prompt(TEXT)
    with torch.inference_mode():
        logits = read_model(reader)(torch.tensor([ids])).logits[0].numpy()
    ours = [log_probabilities(logits_of(folder, [ids])[0]) for folder in (made, original)]
    assert np.abs(ours[0] - log_probabilities(logits)).max() < 1e-3
    assert np.abs(ours[1] - log_probabilities(logits)).max() < 0.02  # what half precision leaves of the model


@pytest.mark.soak  # in CI nothing may be skipped
def test_llama_finds_the_ids_of_a_thousand_strings_and_the_same_log_probabilities(written):
    file, made = written
    ids = made.encode_prompt(TEXT)
    ours = log_probabilities(logits_of(made, [ids])[0])
    with llama_of(file, made.config.vocab_size, made.config.n_positions) as llama:
        if llama is None:
            pytest.skip("llama.cpp is not installed: neither llama-server nor llama_cpp")
        texts = strings(1000)
        different = [text for text in texts if llama.ids(text) != made.tokenizer.encode(text)]
        assert different == []
        for count in (1, 5, len(ids)):
            theirs = llama.log_probabilities(ids[:count])
            likely = ours[count - 1] > np.log(1e-6)  # what nobody ever draws is told in few digits
            assert np.abs(theirs - ours[count - 1])[likely].max() < 1e-3
