"""GGUF both ways: what llama.cpp's own package wrote is read, and what we write its own package reads."""

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from conftest import TRICKY, edit_json, make_model
from safetensors.numpy import load_file
from test_convert import run_convert

from convert.folder import convert
from convert.from_gguf import gguf_vocabulary
from convert.source import find_source
from convert.to_gguf import to_gguf
from generate import Refusal, check_folder, logits_of

F32, F16, Q8_0 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "Q8_0"))
NAMES = {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2"}
NAMES |= {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
ENDS = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f"}


def expected(model: Path) -> dict[str, np.ndarray]:
    """The tensors of a model by the names and in the shapes of GGUF, matrices [out, in]."""
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(model / "model.safetensors").items()}
    layers = {name.split(".")[1] for name in tensors if name.startswith("h.")}
    pairs = [(f"{new}.{kind}", f"{old}.{kind}") for new, old in ENDS.items() for kind in ("weight", "bias")]
    pairs += [
        (f"blk.{n}.{new}.{kind}", f"h.{n}.{old}.{kind}")
        for n in layers
        for new, old in NAMES.items()
        for kind in ("weight", "bias")
    ]
    return {
        new: tensors[old].T
        if "_" in old.split(".")[-2] and old.startswith("h.") and tensors[old].ndim == 2
        else tensors[old]
        for new, old in pairs
        if old in tensors
    }


@pytest.mark.parametrize(("kind", "raw", "most"), [("f16", F16, 1e-3), ("q8_0", Q8_0, 1e-2)])
def test_what_is_written_the_package_reads_and_the_way_back_gives_the_model(model, tmp_path, kind, raw, most):
    folder = check_folder(model)
    to_gguf(folder, tmp_path / "tiny.gguf", kind)
    reader = gguf.GGUFReader(tmp_path / "tiny.gguf")
    found = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    wanted = expected(model)
    assert found.keys() == wanted.keys()
    assert all(np.abs(found[name] - value).max() < most * max(1, np.abs(value).max()) for name, value in wanted.items())
    kinds = {t.name: t.tensor_type for t in reader.tensors}
    assert {kinds[name] for name, value in wanted.items() if value.ndim == 2} == {raw, F32}
    assert {name for name, value in wanted.items() if value.ndim == 2 and kinds[name] == F32} == {
        "position_embd.weight"
    }
    made = convert(find_source(tmp_path / "tiny.gguf"), tmp_path / "back")
    back = check_folder(tmp_path / "back")
    assert made.certificate.largest_difference < 1e-3
    ids = [5, 17, 3, 99, 250, 44]
    first, last = (logits_of(one, [ids])[0] for one in (folder, back))
    assert np.abs(first - last).max() < (0.01 if kind == "f16" else 0.2)
    assert back.encode_prompt(TRICKY) == folder.encode_prompt(TRICKY)
    assert back.config == folder.config
    assert (back.end_ids, back.tokenizer.special_names) == (folder.end_ids, folder.tokenizer.special_names)


@pytest.mark.parametrize("raw", [F32, F16, Q8_0, gguf.GGMLQuantizationType.BF16, gguf.GGMLQuantizationType.Q5_0])
def test_what_the_package_wrote_is_read_in_any_type(model, tmp_path, raw):
    write(tmp_path / "theirs.gguf", model, raw)
    convert(find_source(tmp_path), tmp_path / "made", check=False)
    values = expected(model)
    made = expected(tmp_path / "made")
    for name, value in values.items():
        quantised = value.ndim == 2 and name != "position_embd.weight"
        written = (
            gguf.quants.dequantize(gguf.quants.quantize(np.ascontiguousarray(value), raw), raw) if quantised else value
        )
        assert np.array_equal(made[name], written.astype(np.float32)), name
    assert check_folder(tmp_path / "made").encode_prompt(TRICKY) == check_folder(model).encode_prompt(TRICKY)


def write(file: Path, model: Path, raw, architecture: str = "gpt2", **kv) -> None:
    """A model as a GGUF by the package alone."""
    folder = check_folder(model)
    config, writer = folder.config, gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    from generate import merges_of, model_of, open_tokenizer

    told = model_of(open_tokenizer(model))
    tokens = sorted(told["vocab"], key=told["vocab"].get)
    writer.add_tokenizer_model(kv.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(kv.get("pre", "gpt-2"))
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<|endoftext|>" else 1 for token in tokens])
    if merges := [" ".join(merge) for merge in merges_of(told)]:
        writer.add_token_merges(merges)
    writer.add_eos_token_id(0)
    for name, value in expected(model).items():
        value = np.ascontiguousarray(value)
        if value.ndim == 2 and name != "position_embd.weight":
            writer.add_tensor(name, gguf.quants.quantize(value, raw), raw_dtype=raw)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "llama"}, "is of the architecture 'llama', not gpt2"),
        ({"pre": "llama-bpe"}, "a vocabulary of the kind 'llama-bpe', which cuts texts another way"),
        ({"tokenizer": "bert"}, "a vocabulary of the kind 'bert'"),
    ],
)
def test_a_gguf_of_another_kind_is_named(model, tmp_path, changes, sentence):
    write(tmp_path / "other.gguf", model, F16, **changes)
    done = run_convert(tmp_path / "other.gguf", tmp_path / "made", "--no-check")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert sentence in done.stderr


@pytest.mark.parametrize(
    "facts",
    [
        {"merges": [1, 2]},
        {"merges": "a b"},
        {"token_type": 1},
        {"token_type": [1.0, 3.0]},
        {"token_type": ["1", "3"]},
        {"tokens": 7},
        {"tokens": "ab"},
        {"tokens": [1, 2]},
    ],
    ids=str,
)
def test_a_vocabulary_of_the_wrong_kind_of_values_is_refused(tmp_path, facts):
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "gpt2")
    writer.add_tokenizer_model("gpt2")
    told = {"tokens": ["a", "b"], "merges": ["a b"], "token_type": [1, 3]} | facts
    add = {list: writer.add_array, int: writer.add_uint32, str: writer.add_string}
    for name, value in told.items():
        add[type(value)](f"tokenizer.ggml.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(Refusal, match=r"odd\.gguf lacks a part of its vocabulary"):
        gguf_vocabulary(tmp_path / "odd.gguf")


def test_a_damaged_gguf_is_refused_wherever_it_is_cut(model, tmp_path):
    write(tmp_path / "whole.gguf", model, Q8_0)
    data = (tmp_path / "whole.gguf").read_bytes()
    for n, size in enumerate([0, 3, 4, 11, 24, 60, 200, 2000, len(data) // 2, len(data) - 1]):
        file = tmp_path / f"{n}.gguf"
        file.write_bytes(data[:size])
        with pytest.raises(Refusal, match=rf"{n}\.gguf (is no GGUF|cannot be read as GGUF)"):
            convert(find_source(file), tmp_path / "made", check=False)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"activation_function": "gelu"}, "activation_function 'gelu', where llama.cpp's GPT-2 has 'gelu_new'"),
        ({"scale_attn_weights": False}, "scale_attn_weights False, where llama.cpp's GPT-2 has True"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True, where"),
    ],
)
def test_what_llama_would_compute_otherwise_does_not_become_a_gguf(model, tmp_path, config, sentence):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    edit_json(other / "config.json", **config)
    with pytest.raises(Refusal, match=sentence.replace(".", r"\.")):
        to_gguf(check_folder(other), tmp_path / "other.gguf", "f16")
    assert list(tmp_path.iterdir()) == [other]


def test_the_command_writes_and_keeps_what_is_there(model, tmp_path):
    file = tmp_path / "tiny.gguf"
    done = run_convert("--to-gguf", model, file, "--gguf-type", "q8_0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "in q8_0, for llama.cpp" in done.stdout
    assert "exists already" in run_convert("--to-gguf", model, file).stderr
    assert "ends in .gguf" in run_convert("--to-gguf", model, tmp_path / "tiny.bin").stderr


def test_rows_without_a_token_are_padding_there_and_back(tmp_path):
    folder = check_folder(make_model(tmp_path / "padded", vocab_size=304))
    to_gguf(folder, tmp_path / "padded.gguf", "f16")
    convert(find_source(tmp_path / "padded.gguf"), tmp_path / "back", check=False)
    back = check_folder(tmp_path / "back")
    assert (back.config.vocab_size, back.tokenizer.size) == (304, folder.tokenizer.size)
