"""PyTorch's old files convert by the same command, and nothing in them is ever run."""

import pickle
from pathlib import Path

import pytest
import torch
from conftest import TRICKY
from safetensors.torch import load_file

from convert.folder import convert
from convert.source import find_source
from generate import Refusal, check_folder


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
    with pytest.raises(Refusal, match="differs from wte"):
        convert(find_source(source), tmp_path / "other", check=False)


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


def test_a_tensor_that_claims_more_than_is_stored_is_refused_before_it_is_made(tmp_path):
    torch.save({"wte.weight": torch.zeros(1).expand(10**13)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Refusal, match="stored whole"):
        convert(find_source(tmp_path), tmp_path / "made", check=False)
