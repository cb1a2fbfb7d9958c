"""What goes wrong with a training: one sentence each that says what to do, and nothing half-made is left behind."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from conftest import ROOT, edit_json
from safetensors.torch import load_file, save_file
from tuning import cut_at, run_json, same_weights, some_text

from finetune.__main__ import main

pytestmark = pytest.mark.long

SHORT = ("--documents", "line", "--block-size", 32, "--steps", 2)
COMMON = (
    "--documents", "line", "--block-size", 32, "--batch-size", 4, "--steps", 8, "--learning-rate", 1e-3, "--save-every", 2,
    "--evaluate-every", 0,
)  # fmt: skip
SCRATCH = ("--from-scratch", "--layers", 1, "--width", 32, "--vocab", 300, "--block-size", 32, "--steps", 4)


@pytest.fixture
def changed(model, tmp_path_factory):
    """A copy of the model with other weights or another config.json."""

    def make(weights=lambda w: w, **config):
        folder = shutil.copytree(model, tmp_path_factory.mktemp("models") / "odd")
        found = weights(load_file(folder / "model.safetensors"))
        save_file({k: v.contiguous() for k, v in found.items()}, folder / "model.safetensors", {"format": "pt"})
        if config:
            edit_json(folder / "config.json", **config)
        return folder

    return make


@pytest.fixture
def refused(bench, capsys):
    """Run a command that must be refused; returns its one sentence. `early`: before anything was done."""

    def run(arguments, early=True) -> str:
        before, text = bench.left(), bench.text.read_bytes()
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 1
        told = capsys.readouterr()
        *_, last = told.err.splitlines()
        assert last.startswith("finetune: ")
        assert last.endswith((".", "?"))
        assert "Traceback" not in told.err
        assert not early or told.err.count("\n") == 1, "and nothing else"
        assert bench.left() == before
        assert bench.text.read_bytes() == text
        return last.removeprefix("finetune: ")

    return run


@contextmanager
def no_file_larger_than(size: int):
    """As on a disk that is nearly full, but for this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


BAD_DATA = {
    "empty.txt": (b"", (), "empty; there is nothing to learn from"),
    "blank.txt": (b" \n\n\t\n", (), "no document with any text"),
    "word.txt": (b"hello", (), "tokens are too few to train on; at least 32 are needed"),
    "binary.txt": (bytes(range(256)) * 20, (), "binary.txt looks like a binary file (line 1: it has NUL bytes)"),
    "picture.txt": (b"\x89PNG\r\n\x1a\n", (), "a PNG picture"),
    "mixed.txt": ("ünd\n".encode() * 20 + "caf\xe9".encode("latin-1"), (), "mixed.txt, line 21: byte 0xe9 is not utf-8"),
    "odd.txt": (b"the king", ("--encoding", "klingon"), "There is no encoding 'klingon'"),
    "two.csv": (b"name,text\na,b\n", (), "two.csv has the columns name, text; choose one with --column"),
    "long.csv": (b"text\nOnce upon a time, in a far land\n", (), "long.csv, line 2: the row has 2 cell(s), where the first row has 1"),
    "names.csv": (b"Emma\nOlivia\n", (), "nothing tells whether its first row (Emma) is a header; give --header yes or"),
    "quotes.txt": ("\u201cCome in,\u201d said the fox.\n".encode("cp1252"), (), "it reads like cp1252"),
    "wrong.csv": (b"name,text\na,b\n", ("--column", "prose"), "no column prose; it has name, text"),
    "open.csv": (b'text\n"never closed\n', (), "is every quotation mark closed?"),
    "plain.txt": (b"the king", ("--column", "text"), "plain.txt has no columns"),
    "wrong.jsonl": (b'{"text": "a"}\n', ("--field", "prose"), "line 1 has no field prose; it has text"),
    "two.json": (b'[{"a": "x", "b": "y"}]', (), "two.json, line 1 has the fields a, b; choose one with --field"),
    "number.jsonl": (b'{"text": "a"}\n{"text": 1}\n', (), "line 2: text is no text, but 1"),
    "broken.jsonl": (b'{"text": "a"}\nnope\n', (), "line 2 is not JSON"),
    "text.gz": (b"no gzip", (), "text.gz is not gzip, or damaged"),
    "table.parquet": (b"PAR1 and no more", (), "cannot be read as Parquet"),
    "pickle.npz": (b"\x80\x04\x95", (), "pickle.npz is no .npz of token ids, or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_cannot_be_trained_on_is_refused(name, bench, refused):
    content, options, sentence = BAD_DATA[name]
    (bench.root / name).write_bytes(content)
    assert sentence in refused(bench.arguments("out", *options, data=bench.root / name))
    if not options:
        held = bench.arguments("out", *SHORT[2:], "--validation", bench.root / name)
        if name != "word.txt":  # that is little, but can be judged
            assert sentence in refused(held)


def test_an_old_encoding_with_objects_or_foreign_ids_is_refused(bench, refused):
    np.savez(bench.root / "objects.npz", np.array([{"a": 1}], dtype=object))
    np.savez(bench.root / "foreign.npz", np.array([1, 2, 99999]))
    assert "holds objects" in refused(bench.arguments("out", data=bench.root / "objects.npz"))
    told = refused(bench.arguments("out", data=bench.root / "foreign.npz"))
    assert "foreign.npz holds the id 99999, but this model's tokenizer has 300 tokens" in told


def test_data_that_is_not_there_is_refused(bench, refused):
    (bench.root / "nothing").mkdir()
    assert "There is no file in" in refused(bench.arguments("out", data=bench.root / "nothing"))
    assert refused(bench.arguments("out", data=bench.root / "lost.txt")) == f"There is no {bench.root}/lost.txt."
    assert "No file is named like" in refused(bench.arguments("out", data=bench.root / "*.csv"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--learning-rate", "nan"), "--learning-rate must be from 0 to 1, not nan"),
        (("--epochs", "inf"), "--epochs must be from 0 to 100,000, not inf"),
        (("--epochs", "1e-9"), "--epochs 1e-09 of 14 batches are no step at all; give --steps"),
        (("--steps", "2", "--epochs", "2"), "Give --steps 2 or --epochs 2, not both"),
        (("--steps", "-1"), "--steps must be from 0 to 100,000,000, not -1"),
        (("--steps", "9" * 30), "--steps must be from 0 to 100,000,000, not 999"),
        (("--batch-size", "0"), "--batch-size must be from 1 to 65,536, not 0"),
        (("--dropout", "2"), "--dropout must be from 0 to 0.9, not 2.0"),
        (("--clip", "inf"), "--clip must be from 0 to 1,000,000, not inf"),
        (("--seed", "-1"), "--seed must be from 0 to 4,294,967,295, not -1"),
        (("--keep", "0"), "--keep must be from 1 to 10,000, not 0"),
        (("--vocab", "100"), "--vocab must be from 257 to 1,048,576, not 100"),
        (("--heads", "3"), "--heads is for --from-scratch; tiny has a shape of its own"),
        (("--schedule", "square"), "--schedule must be one of cosine, linear, constant, stable, not 'square'"),
        (("--split", "nan/100"), "--split must be two or three numbers such as 90/10 or 70/20/10, not 'nan/100'"),
        (("--split", "0/100"), "must add up to 100 and leave something to train on, not '0/100'"),
        (("--split", "60/60"), "--split must add up to 100"),
        (("--format", "JOKE:"), "--format must hold {text} exactly once, not as in 'JOKE:'"),
        (("--format", "\udcff{text}"), "--format is not UTF-8"),
        (("--documents", ""), "The separator of --documents is empty"),
        (("--special-tokens", "foo"), "--special-tokens may name bos, eos, pad, not 'foo'"),
        (("--special-tokens", "eos", "--lora", "2"), "--special-tokens needs the embedding to be trained, which --lora"),
        (("--special-tokens", "eos", "--freeze-embeddings"), "which --freeze-embeddings leaves as it is"),
        (("--block-size", "65"), "--block-size must be from 2 to 64, the window of this model, not 65"),
        (("--block-size", "1"), "--block-size must be from 2 to 64, the window of this model, not 1"),
        (("--patience", "2", "--split", "100/0"), "--patience 2 needs a validation part, and --split 100/0 gives none"),
        (("--device", "cuda"), "--device is cuda, but there is no CUDA device here"),
        (("--precision", "float16"), "--precision float16 needs a GPU"),
        (("--resume",), "to resume; leave --resume out to begin one"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_options_out_of_bounds_are_named_with_limit_and_value(options, sentence, bench, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sentence in refused(bench.arguments("out", *options))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--width", 32, "--heads", 5), "--width 32 cannot be shared by 5 heads"),
        (("--block-size", 1), "--block-size must be from 2 to 1,048,576"),
        (("--special-tokens", "eos"), "--special-tokens is for models that exist"),
        (("--lora", 2), "--lora is for models that exist"),
        (("--layers", 1000, "--width", 16384), "--layers 1000 of --width 16384 need 12,000 GiB for the weights alone"),
    ],
    ids=lambda value: value[-2] if isinstance(value, tuple) else "",
)
def test_what_a_new_model_cannot_be_is_refused(options, sentence, bench, refused):
    assert sentence in refused(bench.arguments("out", *SCRATCH[1:], *options, model=""))


@pytest.mark.parametrize(
    "options",
    [("--preset", "nope"), ("--learning-rate", "high"), ("--steps", "1.5"), ("--from-scratch",), ("--nonsense",)],
    ids="".join,
)
def test_a_wrong_usage_is_told_as_usage(options, bench, capsys):
    with pytest.raises(SystemExit) as exit:
        bench.train("out", *options)
    assert exit.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert not bench.left()


def test_what_a_person_gives_comes_before_the_preset(bench):
    folder = bench.made("out", "--preset", "gpt-2-simple", "--epochs", 0.2, "--documents", "line")
    assert run_json(folder)["steps"] < 10, "and not the preset's 1,000"


@pytest.mark.parametrize("split", ["98/1/1", "99.99/0.01", "33.3/33.3/33.4"])
@pytest.mark.parametrize("more", [(), ("--line-by-line",)], ids=["packed", "lines"])
def test_a_part_for_which_nothing_is_left_is_no_part(split, more, bench):
    bench.text.write_text("one two three\n" * 9)
    folder = bench.made("out", *SHORT, "--split", split, *more)
    told = run_json(folder)["tokens"]
    assert all(told.values())
    assert sum(told.values()) == 54, "what is too little for a part of its own is trained on"


def test_a_split_that_leaves_nothing_to_train_on_is_refused(bench, refused):
    bench.text.write_text("one two three\n" * 9)
    told = refused(bench.arguments("out", *SHORT, "--split", "1/99"))
    assert "--split 1/99 leaves none of its 54 tokens to train on" in told


def test_models_that_are_not_there_are_told_at_once(bench, refused, model):
    told = refused(bench.arguments("out", model="openai-community/gpt2"))
    assert "`python -m generate download openai-community/gpt2` fetches a model" in told
    assert "there is no such folder" in refused(bench.arguments("out", model="nonesuch"))
    assert "is a file; give the folder" in refused(bench.arguments("out", model=model / "model.safetensors"))
    assert "config.json is missing" in refused(bench.arguments("out", model=bench.root))


def test_models_that_cannot_be_trained_are_told_before_they_are(bench, refused, changed, model):
    def with_nan(w):
        w["transformer.wte.weight"][5] = float("nan")
        return w

    one = changed()
    text = (one / "tokenizer.json").read_text().replace("<|endoftext|>", "<|nothing|>")
    (one / "tokenizer.json").write_text(text)
    for name in ("config.json", "generation_config.json"):
        edit_json(one / name, eos_token_id=None, bos_token_id=None)
    assert "has no end token to close documents with" in refused(bench.arguments("out", model=one))
    assert "must name eos too" in refused(bench.arguments("out", "--special-tokens", "bos", model=one))
    assert "shape [300, 32] where config.json says [299, 32]" in refused(
        bench.arguments("out", model=changed(vocab_size=299))
    )
    other = changed(
        lambda w: {k: v[:200].clone() if k.endswith("wte.weight") else v for k, v in w.items()}, vocab_size=200
    )
    assert "its tokenizer goes up to id 299 but the embedding has 200 rows" in refused(
        bench.arguments("out", model=other)
    )
    (cut := changed() / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])
    assert "damaged or cut short" in refused(bench.arguments("out", model=cut.parent))
    assert "wte.weight holds NaN or infinity" in refused(bench.arguments("out", model=changed(with_nan)), early=False)


@pytest.mark.parametrize(
    ("weights", "config"),
    [
        (lambda w: {k.removeprefix("transformer."): v for k, v in w.items()}, {}),
        (lambda w: {k: v.bfloat16() for k, v in w.items()}, {"dtype": "bfloat16"}),
        (lambda w: w | {"lm_head.weight": w["transformer.wte.weight"].clone()}, {"tie_word_embeddings": False}),
        (lambda w: w, {"tie_word_embeddings": False}),
        (lambda w: w | {"lm_head.weight": w["transformer.wte.weight"].flip(0) * 0.5}, {}),
        (lambda w: {f"module.{k}": v for k, v in w.items() if not k.endswith("c_fc.bias")}, {}),
        (lambda w: w, {"scale_attn_by_inverse_layer_idx": True, "activation_function": "relu"}),
    ],
    ids=[
        *("no prefix", "bfloat16", "the embedding as a head", "a head that is nowhere", "a head of its own"),
        *("a prefix, and no bias", "other arithmetic"),
    ],
)
def test_odd_folders_are_trained_as_the_playground_serves_them(weights, config, bench, changed):
    bench.made("out", *SHORT, model=changed(weights, **config))  # which compares the logits of both


@pytest.mark.parametrize("more", [(), ("--lora", 2)], ids=["whole", "lora"])
def test_a_training_in_bfloat16_ends_well(more, bench):
    bench.made("out", *SHORT, "--precision", "bfloat16", *more)


def test_a_beginning_token_goes_on_to_be_put_before_documents(bench, capsys):
    lines = ("--documents", "line", "--line-by-line")
    folder = bench.made("out", *lines, "--steps", 2, "--special-tokens", "bos,eos,pad", "--validation", bench.text)
    capsys.readouterr()
    cache = ["--cache", str(bench.root / "cache")]
    assert main(["evaluate", str(folder), str(bench.text), *lines, "--json", "--device", "cpu", *cache]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["loss"] == pytest.approx(run_json(folder)["evaluations"][-1]["loss"], abs=1e-6)
    further = bench.made("further", *SHORT, model=folder)
    assert json.loads((further / "rubric.json").read_text())["begin"]["token_id"] == 300


def test_a_place_that_cannot_be_written_to_is_refused(bench, refused, model):
    (bench.root / "there").mkdir()
    (bench.root / "file").write_text("mine")
    assert "there exists already; choose another name, or add --force" in refused(bench.arguments("there"))
    assert "file exists already" in refused(bench.arguments("file"))
    assert "file is no folder" in refused(bench.arguments("file", "--force"))
    assert "There is no folder" in refused(bench.arguments("no/such"))
    assert "begins with a dot" in refused(bench.arguments(".hidden"))
    assert "/proc/" in refused(bench.arguments("/proc/out"))
    assert "File name too long" in refused(bench.arguments("x" * 250))
    assert "--out is not UTF-8" in refused(bench.arguments("\udcff"))
    assert (bench.root / "file").read_text() == "mine"


def test_force_never_replaces_the_folder_that_the_text_is_in(bench, refused):
    own = bench.root / "own"
    own.mkdir()
    (own / "text.txt").write_text(some_text(40))
    for data in (own, own / "text.txt"):
        told = refused(bench.arguments("own", *SHORT, "--force", data=data))
        assert "would be replaced with it; choose another name" in told
        told = refused(["encode", data, own, "--model", bench.model, "--force"])
        assert "would be replaced with it; choose another name" in told
    assert (own / "text.txt").exists()


def test_names_that_are_no_unicode_do_not_matter(bench):
    text = bench.root / "caf\udce9.txt"
    text.write_text(some_text(30))
    told = run_json(bench.made("out", *SHORT, data=text))
    assert told["data"][0]["name"] == "caf\ufffd.txt"


def test_what_encode_made_is_taken_only_as_it_is(bench, refused, model, changed):
    encoded = bench.root / "encoded"
    command = ["encode", str(bench.text), str(encoded), "--model", str(model), "--documents", "line"]
    assert main(command) == 0
    assert "exists already" in refused(command)

    def told(*options, **kwargs):
        return refused(bench.arguments("out", *options, data=encoded, **kwargs))

    assert "is encoded already; --format 'A {text}' is for text" in told("--format", "A {text}")
    assert "is encoded already; --from-scratch needs the text" in told(*SCRATCH[1:], model="")
    assert "was encoded with another tokenizer" in told("--special-tokens", "eos")
    other = changed(eos_token_id=7)
    edit_json(other / "generation_config.json", eos_token_id=7)
    assert "whose documents end otherwise" in told(model=other)
    tokens = (encoded / "tokens.bin").read_bytes()
    (encoded / "tokens.bin").write_bytes(b"\xff\xff" + tokens[2:])
    assert "holds the id 65535, where the tokenizer has 300 tokens" in told()
    (encoded / "tokens.bin").write_bytes(tokens)
    (encoded / "ends.bin").write_bytes(b"\x7f" * (encoded / "ends.bin").stat().st_size)
    assert "do not belong together" in told()
    (encoded / "tokens.bin").write_bytes(b"\0\0")
    assert "its files are cut short" in told()
    (encoded / "encoding.json").write_text("{")
    assert "holds no encoded text" in told()


def test_the_smaller_commands_refuse_alike(bench, refused, model):
    cache = ("--cache", bench.root / "cache")
    (bench.root / "empty.txt").touch()
    assert "There is no" in refused(["encode", bench.root / "lost.txt", bench.root / "out", "--model", model])
    assert "there is no such folder" in refused(["encode", bench.text, bench.root / "out", "--model", "nonesuch"])
    assert "There is no folder" in refused(["encode", bench.text, bench.root / "no" / "out", "--model", model])
    assert "empty" in refused(["encode", bench.root / "empty.txt", bench.root / "out", "--model", model])
    assert "there is no such folder" in refused(["evaluate", "nonesuch", bench.text, *cache])
    assert "not 65" in refused(["evaluate", model, bench.text, "--block-size", "65", *cache])
    assert "empty" in refused(["evaluate", model, bench.root / "empty.txt", *cache])
    assert "float16 needs a GPU" in refused(
        ["evaluate", model, bench.text, "--device", "cpu", "--precision", "float16", *cache]
    )


def test_a_window_that_memory_is_too_short_for_is_told(bench, refused, monkeypatch):
    from transformers import GPT2LMHeadModel

    real = GPT2LMHeadModel.forward

    def short(self, input_ids, **kwargs):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(self, input_ids, **kwargs)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", short)
    told = refused(bench.arguments("out", *SHORT), early=False)
    assert "Memory is too short for one window of 32 tokens" in told


@pytest.fixture
def begun(bench):
    """A training that was cut at step 3; a function brings it back as it was."""
    with cut_at(3):
        assert bench.train("out", *COMMON) == 130
    work = bench.root / ".out.training"
    kept = shutil.copytree(work, bench.root / "kept")

    def again():
        shutil.rmtree(work)
        return shutil.copytree(kept, work)

    return again


def test_a_checkpoint_damaged_by_hand_is_named_and_the_one_before_it_serves(begun, bench, refused):
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        for damage in ("gone", "empty"):
            file = begun() / "checkpoint-3" / name
            file.unlink() if damage == "gone" else file.write_bytes(b"")
            told = refused(bench.arguments("out", *COMMON, "--resume"), early=False)
            assert f"{file} is missing or damaged; remove checkpoint-3 to go on from the checkpoint before it" in told
    shutil.rmtree(file.parent)
    whole = bench.made("whole", *COMMON)
    assert same_weights(whole, bench.made("out", *COMMON, "--resume"))


def test_a_log_damaged_by_hand_is_named(begun, bench, refused):
    for text in ("", "{", "[]", "{}", '{"options": []}'):
        (begun() / "run.json").write_text(text)
        assert "run.json cannot be read" in refused(bench.arguments("out", *COMMON, "--resume"))
    edit_json(begun() / "run.json", options={"steps": "many"})
    assert "--steps in run.json is 'many', which is damage" in refused(bench.arguments("out", *COMMON, "--resume"))
    (begun() / "run.json").unlink()
    assert "run.json cannot be read" in refused(bench.arguments("out", *COMMON, "--resume"))


def test_only_what_was_begun_is_resumed(begun, bench, refused, changed):
    begun()
    resume = (*COMMON, "--resume")
    assert "--steps was 8 when this training began, and cannot become 9" in refused(
        bench.arguments("out", *resume, "--steps", 9)
    )
    assert "cannot become" in refused(bench.arguments("out", *resume, "--preset", "blocks"))
    other = changed(lambda w: {name: value * 1.01 for name, value in w.items()})
    assert "is not the tiny this training began with" in refused(bench.arguments("out", *resume, model=other))
    assert "This training began with --model tiny" in refused(bench.arguments("out", *resume, model=""))
    bench.text.write_text(some_text(61))
    assert "The text is not the one this training began with" in refused(bench.arguments("out", *resume))


def test_a_new_tokenizer_damaged_by_hand_is_named(bench, refused):
    with cut_at(2):
        assert bench.train("out", *SCRATCH[1:], model="") == 130
    (bench.root / ".out.training" / "tokenizer.json").write_text("{")
    assert "tokenizer.json is damaged" in refused(bench.arguments("out", *SCRATCH[1:], "--resume", model=""))


def test_a_disk_that_is_full_leaves_the_last_complete_checkpoint(bench, refused, model):
    whole = bench.made("whole", *COMMON)
    with cut_at(3):
        assert bench.train("out", *COMMON) == 130
    size = (model / "model.safetensors").stat().st_size
    for limit in (size // 2, size + 1000):  # amid the weights, amid the optimizer's state
        with no_file_larger_than(limit):
            told = refused(bench.arguments("out", *COMMON, "--resume"), early=False)
        assert "The checkpoint of step 4 could not be written" in told
        assert "the one of step 3 is complete: make room and go on with --resume" in told
        assert {p.name for p in (bench.root / ".out.training").glob("*check*")} == {"checkpoint-2", "checkpoint-3"}
        assert not list((bench.root / ".out.training").glob(".*"))
    assert same_weights(whole, bench.made("out", *COMMON, "--resume"))
    assert bench.left() == {"whole", "out"}


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (("--save-every", 0), 50_000),
        (("--save-every", 0, "--sample-every", 8, "--sample-length", 2), 50_000),
        ((), 1000),
    ],
    ids=["the result", "a sample", "the log"],
)
def test_a_disk_that_is_full_without_a_checkpoint_leaves_nothing(options, limit, bench, refused, capsys):
    bench.made("warm", *COMMON, *options)  # its encoding is in the cache
    with no_file_larger_than(limit):
        assert "cannot be written" in refused(bench.arguments("out", *COMMON, *options), early=False)
    assert bench.left() == {"warm"}


def test_a_disk_that_is_full_for_the_encoding_leaves_nothing(bench, refused):
    with no_file_larger_than(100):
        assert "cannot be written: File too large" in refused(bench.arguments("out", *COMMON))
        assert "cannot be written" in refused(["encode", bench.text, bench.root / "encoded", "--model", bench.model])
    assert not list((bench.root / "cache").iterdir())


KILLER = """
import os, pathlib, shutil, signal, sys
from finetune import result
from finetune.__main__ import main
def killed(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
rename, remove = pathlib.Path.rename, shutil.rmtree
def rename_or_die(path, target):
    return killed() if pathlib.Path(target).name == "checkpoint-4" else rename(path, target)
def remove_or_die(path, *rest, **more):
    if path.is_dir() and path.name.endswith("checkpoint-2"):
        (path / "model.safetensors").unlink()
        killed()
    remove(path, *rest, **more)
moment = sys.argv.pop(1)
if moment == "before it is shown":
    pathlib.Path.rename = rename_or_die
elif moment == "while an old one is removed":
    shutil.rmtree = remove_or_die
else:
    result.prove = killed
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("moment", ["before it is shown", "while an old one is removed", "while the result is written"])
def test_a_process_killed_while_saving_leaves_complete_checkpoints_alone(moment, bench):
    options = (*COMMON, "--keep", 1, "--steps", 4)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", KILLER, moment, *bench.arguments("out", *options)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    work = bench.root / ".out.training"
    assert not (bench.root / "out").exists()
    assert list(work.glob("checkpoint-*"))
    for checkpoint in work.glob("checkpoint-*"):
        assert (checkpoint / "model.safetensors").exists(), "only complete ones are ever seen"
    whole = bench.made("whole", *options)
    assert same_weights(whole, bench.made("out", *options, "--resume"))
    assert {name for name in bench.left() if not name.startswith(".")} == {"whole", "out"}
    assert ".out.training" not in bench.left()


def test_nothing_of_this_machine_is_written_into_the_model(bench):
    import socket

    folder = bench.made("out", *SHORT)
    for file in folder.rglob("*"):
        assert socket.gethostname() not in file.name
        if file.is_file() and file.name != "run.json":  # which has the command as it was given
            assert str(bench.root.parent).encode() not in file.read_bytes()


def test_two_trainings_of_one_model_do_not_run_at_once(bench, refused):
    from finetune.task import alone

    with alone(bench.root / ".out.training"):
        assert "out is being trained by another process" in refused(bench.arguments("out", *COMMON))
        assert "out is being trained by another process" in refused(bench.arguments("out", *COMMON, "--force"))
