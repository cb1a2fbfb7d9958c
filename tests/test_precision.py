"""`auto` takes the fastest precision that leaves this very model what it is, and measures that once."""

import json
import os
import shutil

import pytest
import torch
from conftest import edit_json, make_model
from engines import running
from safetensors.torch import load_file, save_file

import generate.transformer.precision
from generate import Refusal, find_model, has_bfloat16
from generate.transformer import tuning
from generate.transformer.model import load_model
from generate.transformer.precision import choose_precision, negligible

CPU = torch.device("cpu")


@pytest.fixture
def models_folder(models, tmp_path):
    """A models folder with `tiny` alone, which has no manifest."""
    shutil.copytree(models / "tiny", tmp_path / "tiny")
    assert not (tmp_path / "tiny" / "rubric.json").exists()
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """The precisions that are measured from now on, by name."""
    names, real = [], generate.transformer.precision.effect
    monkeypatch.setattr(
        generate.transformer.precision, "effect", lambda folder, a, b: names.append(b.precision) or real(folder, a, b)
    )
    return names


@pytest.fixture(autouse=True)
def int8_is_fastest(monkeypatch):
    """Or so these tests say, whatever this machine thinks of such small models."""
    monkeypatch.setattr(generate.transformer.precision, "fastest_first", lambda config: ["int8", "bfloat16", "float32"])


def auto(root, name="tiny") -> str:
    """The precision of a run in an engine of its own."""
    with running(root, name, precision="auto") as writer:
        return writer.write(model=name, max_new_tokens=2).precision


def manifest(root, name="tiny") -> dict:
    return json.loads((root / name / "rubric.json").read_text())


def test_a_precision_is_measured_once_and_kept_in_the_manifest(models_folder, measured):
    chosen = auto(models_folder)
    assert measured
    once = list(measured)
    assert auto(models_folder) == chosen
    assert measured == once
    kept = manifest(models_folder)["measured"]
    assert kept["fingerprint"] == find_model(models_folder, "tiny").fingerprint()
    assert set(kept["precisions"]) == set(once)
    for effect in kept["precisions"].values():
        assert effect["kl"] >= 0
        assert 0 <= effect["same"] <= 1
        assert effect["tokens"] > 500


def test_the_manifest_keeps_what_else_it_says(models_folder):
    said = {"format": 1, "source": "my cellar", "end": {"token_id": 0, "text": "über"}, "mine": [1, {"a": None}]}
    (models_folder / "tiny" / "rubric.json").write_text(json.dumps(said))
    auto(models_folder)
    now = manifest(models_folder)
    assert now.pop("measured")
    assert now == said


def test_a_folder_without_a_manifest_gets_one_that_still_serves(models_folder):
    before = find_model(models_folder, "tiny")
    auto(models_folder)
    assert manifest(models_folder)["format"] == 1
    after = find_model(models_folder, "tiny")
    assert after.identity == before.identity
    assert (after.end_id, after.end_text, after.source) == (before.end_id, before.end_text, before.source)


def test_measuring_leaves_no_other_file_behind(models_folder):
    before = {path.name for path in (models_folder / "tiny").iterdir()}
    auto(models_folder)
    assert {path.name for path in (models_folder / "tiny").iterdir()} == before | {"rubric.json"}


def test_a_folder_that_cannot_be_written_to_works_and_is_measured_each_time(
    models_folder, measured, monkeypatch, caplog
):
    from pathlib import Path

    real = Path.write_bytes

    def write_bytes(path, *given, **named):
        if path.parent == models_folder / "tiny":
            raise PermissionError(13, os.strerror(13))  # as root, file modes would forbid nothing
        return real(path, *given, **named)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    chosen = auto(models_folder)
    once = list(measured)
    assert auto(models_folder) == chosen
    assert measured == once * 2
    assert "cannot be kept in rubric.json (Permission denied)" in caplog.text
    assert not (models_folder / "tiny" / "rubric.json").exists()


def test_other_weights_are_measured_anew(models, models_folder, measured):
    auto(models_folder)
    once = len(measured)
    shutil.copy(models / "other" / "model.safetensors", models_folder / "tiny" / "model.safetensors")
    auto(models_folder)
    assert len(measured) > once
    assert manifest(models_folder)["measured"]["fingerprint"] == find_model(models, "other").fingerprint()


@pytest.mark.parametrize(
    "kept", [5, [], "int8", None, {"fingerprint": True, "precisions": 7}, {"fingerprint": True, "precisions": {"int8": {}}},
             {"fingerprint": True, "precisions": {"int8": {"kl": "small", "same": 1}}}]
)  # fmt: skip
def test_a_manifest_whose_measures_are_nonsense_is_refused_or_measured_anew(models_folder, kept):
    """But never ends the loading with an AttributeError."""
    if isinstance(kept, dict):
        kept = kept | {"fingerprint": find_model(models_folder, "tiny").fingerprint()}
    (models_folder / "tiny" / "rubric.json").write_text(json.dumps({"format": 1, "measured": kept}))
    try:
        folder = find_model(models_folder, "tiny")
    except Refusal:
        return
    model = choose_precision(folder, CPU, lambda name: load_model(folder, CPU, name))
    assert model.precision in ("int8", "bfloat16", "float32")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_run_records_its_precision_and_a_given_one_is_not_measured(models_folder, measured, precision):
    with running(models_folder, precision=precision) as writer:
        assert writer.write(max_new_tokens=2).precision == precision
    assert measured == []


def broken_by_int8(root):
    """A model of which one feature is a thousand times the others, as in some real ones: int8 has no room for both."""
    make_model(root / "lopsided", seed=6, n_embd=64)
    file = root / "lopsided" / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            tensor[7] = 1000.0
        if name.endswith("c_attn.weight") or name.endswith("c_fc.weight"):
            tensor[7] /= 1000.0
    save_file(tensors, file, {"format": "pt"})


def test_a_model_that_int8_would_spoil_gets_another_precision(tmp_path):
    broken_by_int8(tmp_path)
    assert auto(tmp_path, "lopsided") in ("bfloat16", "float32")
    kept = manifest(tmp_path, "lopsided")["measured"]["precisions"]
    assert kept["int8"]["kl"] > 1e-3 or kept["int8"]["same"] < 0.97


def test_the_fastest_that_is_good_enough_is_taken_and_the_slower_ones_are_not_measured(models_folder, monkeypatch):
    folder, names = find_model(models_folder, "tiny"), []
    answers = {"int8": {"kl": 2e-3, "same": 0.99}, "bfloat16": {"kl": 1e-4, "same": 0.99}}
    monkeypatch.setattr(
        generate.transformer.precision, "effect", lambda folder, a, b: names.append(b.precision) or answers[b.precision]
    )
    assert choose_precision(folder, CPU, lambda name: load_model(folder, CPU, name)).precision == "bfloat16"
    assert names == ["int8", "bfloat16"]
    answers["int8"] = {"kl": 1e-4, "same": 0.99}
    names.clear()
    edit_json(models_folder / "tiny" / "rubric.json", measured=None)
    assert choose_precision(folder, CPU, lambda name: load_model(folder, CPU, name)).precision == "int8"
    assert names == ["int8"]


@pytest.mark.parametrize(
    ("kl", "same", "good"),
    [(0.0, 1.0, True), (9e-4, 0.97, True), (1e-3, 1.0, False), (0.0, 0.969, False), (float("nan"), 1.0, False)],
)
def test_what_counts_as_negligible(kl, same, good):
    assert negligible({"kl": kl, "same": same}) == good


def test_a_manifest_stays_json_whatever_was_measured(models_folder, monkeypatch):
    monkeypatch.setattr(
        generate.transformer.precision, "effect", lambda folder, a, b: {"kl": float("nan"), "same": 0.0, "tokens": 1}
    )
    assert auto(models_folder) == "float32"
    text = (models_folder / "tiny" / "rubric.json").read_text()

    def forbid(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(text, parse_constant=forbid)


def test_the_storyteller_is_shipped_with_its_measures():
    from conftest import MODELS

    folder = find_model(MODELS, "storyteller")
    assert folder.measured(), "else every first start measures, and dirties the working tree"


@pytest.mark.parametrize("can", [True, False])
def test_bfloat16_is_tried_only_where_the_processor_has_units_for_it(models, monkeypatch, can):
    monkeypatch.setattr(tuning, "has_bfloat16", lambda: can)
    names = tuning.fastest_first(find_model(models, "tiny").config)
    assert sorted(names) == ["bfloat16"] * can + ["float32", "int8"]


@pytest.mark.parametrize(
    ("told", "has"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "aarch64"}, True),
    ],
)
def test_whether_there_are_units_is_asked_of_the_processor(monkeypatch, told, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    assert has_bfloat16() is has
