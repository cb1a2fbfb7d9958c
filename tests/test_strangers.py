"""What is not a GPT-2 is called by its name, in models/ and by the converter, with the way out where there is one."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import edit_json
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    OpenAIGPTConfig,
    OPTConfig,
)

from convert.folder import convert
from convert.source import find_source
from generate import Refusal, check_folder

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2}
OTHERS = {  # as `transformers` makes them
    "GPT-Neo": GPTNeoConfig(**SMALL, num_layers=2, num_heads=2, attention_types=[[["global"], 2]]),
    "GPT-NeoX": GPTNeoXConfig(**SMALL, num_hidden_layers=1, intermediate_size=16),
    "GPT-J": GPTJConfig(vocab_size=50, n_embd=16, n_layer=1, n_head=2, rotary_dim=4),
    "LLaMA": LlamaConfig(**SMALL, num_hidden_layers=1, intermediate_size=16),
    "OPT": OPTConfig(**SMALL, num_hidden_layers=1, ffn_dim=16, word_embed_proj_dim=16),
    "BLOOM": BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2),
    "GPT-1": OpenAIGPTConfig(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_of_model_is_named_by_its_config_and_by_its_weights(model, tmp_path, kind):
    made = AutoModelForCausalLM.from_config(OTHERS[kind])
    made.save_pretrained(tmp_path / "other")
    with pytest.raises(Refusal, match=rf"^other is a {kind} \(model_type '.*'\), and no GPT-2; other kinds"):
        check_folder(tmp_path / "other")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(model / name, tmp_path / "other" / name)
    with pytest.raises(Refusal, match=rf"^other: its weights are those of a {kind}, and no GPT-2's"):
        check_folder(tmp_path / "other")
    torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(Refusal, match=rf"^pytorch_model\.bin is of a {kind}, and no GPT-2; other kinds"):
        convert(find_source(tmp_path / "pytorch_model.bin"), tmp_path / "made", check=False)


@pytest.fixture
def empty(tmp_path) -> Path:
    """models/something without weights."""
    (tmp_path / "something").mkdir()
    return tmp_path / "something"


@pytest.mark.parametrize("base", ["openai-community/gpt2", None])
def test_an_adapter_alone_says_to_merge_it(empty, base):
    config = {"peft_type": "LORA"} | ({"base_model_name_or_path": base} if base else {})
    (empty / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": torch.zeros(8, 32)},
        empty / "adapter_model.safetensors",
    )
    sentence = "something is an adapter alone, " + (
        f"for the model '{base}'; merge it with that first" if base else "not a whole model; merge it"
    )
    for look in (check_folder, lambda folder: find_source(folder)):
        with pytest.raises(Refusal, match=sentence):
            look(empty)


def test_adapter_weights_in_a_pickle_say_to_merge_them(empty):
    torch.save(
        {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": torch.zeros(8, 32)}, empty / "adapter_model.bin"
    )
    with pytest.raises(Refusal, match="is an adapter alone, not a whole model; merge it first"):
        convert(find_source(empty / "adapter_model.bin"), empty / "made", check=False)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            "decoder_model.onnx",
            r"its weights are in decoder_model\.onnx, which is of ONNX and cannot be read here; take",
        ),
        ("tf_model.h5", r"its weights are in tf_model\.h5, which is of Keras"),
        ("flax_model.msgpack", r"its weights are in flax_model\.msgpack, which is of Flax"),
    ],
)
def test_weights_of_another_program_are_named_wherever_they_lie(model, empty, file, sentence):
    (empty / file).write_bytes(b"\x08\x07")
    for given in (empty, empty / file):
        with pytest.raises(Refusal, match=sentence):
            find_source(given)
    with pytest.raises(Refusal, match=sentence):
        check_folder(empty)
    shutil.copy(model / "config.json", empty)
    with pytest.raises(Refusal, match=sentence):
        check_folder(empty)


def test_a_gguf_in_models_says_to_convert_it(empty):
    (empty / "gpt2.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        Refusal, match=r"its weights are in gpt2\.gguf; `python -m convert .*/something/gpt2\.gguf models/NAME`"
    ):
        check_folder(empty)


def test_a_model_type_that_nobody_knows_is_told_as_it_is(model, tmp_path):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    edit_json(other / "config.json", model_type="mine")
    with pytest.raises(Refusal, match="model_type is 'mine'; only gpt2 can be served"):
        check_folder(other)
