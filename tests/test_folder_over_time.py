"""Model folders while a server runs: they come, break and go; they are looked at without torch and never unpickled."""

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from conftest import ROOT, TRICKY, edit_json

import generate.folders.finding
from generate import ModelFolder, Refusal, check_folder, find_model, list_models


def test_vocab_and_merges_encode_as_tokenizer_json_does(folder):
    prompts = [TRICKY, "the old king said", "<|endoftext|>", " ", "\n\n", "I'm  two\t三"]
    expected = [check_folder(folder).encode_prompt(prompt) for prompt in prompts]
    tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    found = check_folder(folder)
    assert [found.encode_prompt(prompt) for prompt in prompts] == expected
    assert (found.end_id, found.encode_prompt("")) == (0, [0])


def test_a_folder_that_comes_breaks_is_mended_or_goes_is_noticed_without_a_restart(folder, model):
    root = folder.parent
    shutil.copytree(model, root / "late")
    (root / ".hidden").mkdir()
    (root / "notes.txt").write_text("not a model")
    assert [(item.name, item.problem) for item in list_models(root)] == [
        ("broken", None),
        ("good", None),
        ("late", None),
    ]
    edit_json(root / "late" / "config.json", n_head=3)
    assert "n_head 3" in str(list_models(root)[2].problem)
    edit_json(root / "late" / "config.json", n_head=4)
    assert list_models(root)[2].problem is None
    shutil.rmtree(root / "late")
    with pytest.raises(Refusal, match="no model called 'late' here; the models are: broken, good"):
        find_model(root, "late")
    assert list_models(root / "nowhere") == []


@pytest.mark.parametrize("name", ["README.md", "log.txt", "certificate.json", "run.json", "picture.png"])
def test_what_only_tells_of_a_model_is_no_reason_to_look_at_it_again(folder, name):
    before = find_model(folder.parent, folder.name)
    (folder / name).write_text("{}")
    assert find_model(folder.parent, folder.name) is before


def replace_in_place(file):
    """The same bytes, written again."""
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        (lambda folder: edit_json(folder / "generation_config.json", temperature=0.5), False),
        (lambda folder: (folder / "rubric.json").write_text('{"format": 1, "source": "a friend"}'), False),
        (lambda folder: (folder / "rubric.json").write_text('{"format": 1, "end": {"token_id": 5}}'), True),
        (lambda folder: edit_json(folder / "generation_config.json", eos_token_id=[0, 7]), True),
        (lambda folder: edit_json(folder / "config.json", layer_norm_epsilon=1e-4), True),
        (lambda folder: replace_in_place(folder / "model.safetensors"), True),
        (lambda folder: replace_in_place(folder / "tokenizer.json"), True),
    ],
)
def test_a_model_is_loaded_again_when_its_numbers_its_tokens_or_its_ends_change(folder, change, is_another):
    (folder / "generation_config.json").write_text("{}")
    before = find_model(folder.parent, folder.name)
    change(folder)
    after = find_model(folder.parent, folder.name)
    assert after is not before
    assert (after.identity != before.identity) is is_another


def test_of_a_folder_that_changes_and_changes_only_the_last_look_is_kept(folder):
    for number in range(20):
        (folder / "rubric.json").write_text(json.dumps({"format": 1, "source": str(number)}))
        found = find_model(folder.parent, folder.name)
    assert found.source == "19"
    gc.collect()
    kept = [one for one in gc.get_objects() if type(one) is ModelFolder and one.path == folder]
    assert kept == [found]


def test_a_folder_that_goes_while_it_is_looked_at_does_not_hide_the_others(folder, monkeypatch):
    real = generate.folders.finding.signature

    def too_late(path):
        if path == folder:
            shutil.rmtree(path)
        return real(path)

    monkeypatch.setattr(generate.folders.finding, "signature", too_late)
    assert [item.name for item in list_models(folder.parent) if item.folder] == ["good"]


def test_importing_and_checking_folders_does_not_import_torch(folder):
    code = "import sys, pathlib, generate; print(len(generate.list_models(pathlib.Path(sys.argv[1]))), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, folder.parent], cwd=ROOT, capture_output=True, text=True)
    count, *modules = done.stdout.split()
    assert count == "2"
    assert not {"torch", "transformers", "flask"} & set(modules)


def test_nothing_is_ever_unpickled(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "burst",)

    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "model.safetensors"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(
            Refusal, match=r"its weights are in pytorch_model\.bin, which|safetensors is (missing|damaged)"
        ):
            check_folder(folder)
    assert not (tmp_path / "burst").exists()


def test_an_absurd_number_of_layers_is_refused_in_little_memory(folder):
    edit_json(folder / "config.json", n_layer=9_999_999)
    code = (
        "import resource, sys; from pathlib import Path; from generate import list_models;"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30));"
        "print([str(item.problem) for item in list_models(Path(sys.argv[1]))])"
    )
    done = subprocess.run([sys.executable, "-c", code, folder.parent], cwd=ROOT, capture_output=True, text=True)
    assert "n_layer" in done.stdout or "lack h." in done.stdout, done.stderr[-300:]
