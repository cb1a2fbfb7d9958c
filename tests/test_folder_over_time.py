"""Model folders while a server runs: they come, break and go; they are looked at without torch and never unpickled."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from conftest import ROOT, TRICKY, edit_json

import generate.folders.finding
from generate import Refusal, check_folder, find_model, list_models


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
        with pytest.raises(Refusal, match=r"model\.safetensors is (missing|damaged)"):
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
    assert "n_layer" in done.stdout or "lacks h." in done.stdout, done.stderr[-300:]
