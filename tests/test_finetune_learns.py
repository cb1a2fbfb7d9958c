"""What a training brings: a hidden pattern is found, texts end by themselves, and a model can come from nothing."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from conftest import MODELS, edit_json, finished
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2LMHeadModel
from tuning import Bench, cut_at, run_json, same_weights, some_text

from generate import LocalEngine, Request, Sampling, check_folder

# The first word of a document decides its last one; what is between says nothing of it.
PLACES = {
    "Anna": "river", "Peter": "castle", "Clara": "forest", "Hans": "mill", "Greta": "tower", "Karl": "garden",
    "Rosa": "bridge", "Otto": "church",
}  # fmt: skip
ANIMALS = ["fox", "wolf", "bird", "cat", "dog", "horse", "goose", "bear"]
THINGS = ["stone", "door", "tree", "well", "fire", "table", "wall", "hill"]


def document(name: str, numbers: random.Random) -> tuple[str, str]:
    """A beginning, and the word that ends it."""
    animal, thing, other = numbers.choice(ANIMALS), numbers.choice(THINGS), numbers.choice(THINGS)
    return f"{name} saw a {animal} near the {thing} by the {other}, and then went to the", " " + PLACES[name]


def written(folder, prompts, samples=1, **options):
    """(text, finish_reason) of every sample of every prompt, by the engine."""
    model = check_folder(folder)
    engine = LocalEngine(folder.parent, "cpu", "float32", 1).start(model)
    try:
        sampling = Sampling(max_new_tokens=40, samples=samples, seed=1, **options)
        request = Request(model, sampling)
        runs = [engine.submit(request, request.new_log(model.encode_prompt(prompt))) for prompt in prompts]
        for run in runs:
            finished(run)
    finally:
        engine.close()
    vocabulary = model.tokenizer.vocabulary
    return [
        (vocabulary.bytes_of(sample.read()["id"].tolist()).decode(), sample.finish_reason)
        for run in runs
        for sample in run.samples
    ]


def accuracy(folder, documents) -> float:
    found = written(folder, [beginning for beginning, _ in documents], temperature=0)
    return sum(text.startswith(last) for (text, _), (_, last) in zip(found, documents, strict=True)) / len(documents)


@pytest.mark.long
def test_a_hidden_pattern_is_found_and_texts_end_by_themselves(tmp_path):
    numbers = random.Random(1)
    documents = [document(numbers.choice(list(PLACES)), numbers) for _ in range(440)]
    training, held = documents[:400], [d for d in documents[400:] if d not in documents[:400]]
    bench = Bench(tmp_path, MODELS / "storyteller", "".join(f"{a}{b}.\n" for a, b in training))
    assert accuracy(MODELS / "storyteller", held) < 0.3
    folder = bench.made(
        "friends", "--documents", "line", "--line-by-line", "--steps", 80, "--batch-size", 16, "--learning-rate", 2e-3,
        "--dropout", 0, "--save-every", 0, "--evaluate-every", 0,
    )  # fmt: skip
    assert accuracy(folder, held) > 0.95
    samples = written(folder, ["", "Anna saw"], samples=32, temperature=1.0, top_k=0)
    assert sum(reason == "stop" for _, reason in samples) > 0.95 * len(samples)
    told = [e["perplexity"] for e in run_json(folder)["evaluations"]]
    assert told[-1] < 0.3 * told[0]


QUICK = ("--documents", "line", "--steps", 4, "--save-every", 0)


@pytest.mark.long
def test_tokenizer_and_model_can_come_from_nothing(tmp_path):
    bench = Bench(tmp_path, None, some_text(300) + "从前有一只狐狸 🦊\n" * 20)
    options = ("--documents", "line", "--layers", 2, "--width", 64, "--vocab", 320, "--block-size", 48)
    folder = bench.made(
        "new", *options, "--steps", 150, "--optimizer", "muon", "--learning-rate", 0.01, "--batch-size", 16, model=""
    )
    made = check_folder(folder)
    assert (made.config.n_layer, made.config.n_embd, made.config.n_head, made.config.n_positions) == (2, 64, 1, 48)
    assert made.config.vocab_size <= 320
    assert made.end_id == 0
    assert made.tokenizer.vocabulary.bytes_of(made.tokenizer.encode("从前 a 🦊\n")).decode() == "从前 a 🦊\n"
    told = [e["bits_per_byte"] for e in run_json(folder)["evaluations"]]
    assert told[-1] < 0.6 * told[0]
    assert run_json(folder)["model"] is None
    assert made.source == "trained from nothing on friends.txt"


@pytest.mark.long
def test_a_training_from_nothing_goes_on_with_its_own_tokenizer(tmp_path):
    bench = Bench(tmp_path, None, some_text(100))
    options = ("--documents", "line", "--layers", 1, "--width", 32, "--vocab", 280, "--block-size", 32, "--steps", 12)
    whole = bench.made("whole", *options, model="")
    with cut_at(5):
        assert bench.train("parted", *options, model="") == 130
    parted = bench.made("parted", *options, "--resume", model="")
    assert same_weights(whole, parted)
    assert (whole / "tokenizer.json").read_text() == (parted / "tokenizer.json").read_text()


@pytest.mark.long
def test_a_model_with_more_layers_begins_where_the_shallow_one_was(bench, model, capsys):
    folder = bench.made("deep", *QUICK, "--layers", 5, "--learning-rate", 1e-3)
    made = check_folder(folder)
    assert made.config.n_layer == 5
    flat = bench.made("flat", *QUICK, "--learning-rate", 1e-3)
    first, other = (run_json(f)["evaluations"][0]["loss"] for f in (folder, flat))
    assert first == pytest.approx(other, abs=1e-6), "at first the new layers pass on what they get"
    assert run_json(folder)["evaluations"][-1]["loss"] < first
    names = {
        name for name in load_file(folder / "model.safetensors") if ".h." in name and name.endswith("mlp.c_proj.weight")
    }
    assert len(names) == 5
    for name in names:
        assert load_file(folder / "model.safetensors")[name].abs().max() > 0, "and then they learn"
    assert bench.train("shallow", *QUICK, "--layers", 1) == 1
    assert "--layers 1: tiny has 2, and there can only be added some" in capsys.readouterr().err


@pytest.mark.long
def test_a_new_model_can_begin_with_projections_of_zero(bench):
    options = (
        "--documents",
        "line",
        "--layers",
        2,
        "--width",
        32,
        "--vocab",
        300,
        "--steps",
        1,
        "--learning-rate",
        1e-9,
    )
    for name, more, zero in (("zero", ("--zero-init",), True), ("usual", (), False)):
        made = load_file(bench.made(name, *options, *more, model="") / "model.safetensors")
        for n in range(2):
            for projection in ("attn", "mlp"):
                weight = made[f"transformer.h.{n}.{projection}.c_proj.weight"]
                assert (float(weight.abs().max()) < 1e-6) == zero


def test_special_tokens_are_added_learned_and_never_shown(bench, model):
    folder = bench.made("out", *QUICK, "--line-by-line", "--special-tokens", "bos,eos,pad")
    made = check_folder(folder)
    assert made.config.vocab_size == 303
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens([300, 301, 302]) == ["<BOS>", "<EOS>", "<PAD>"]
    assert made.end_id == 301
    assert made.encode_prompt("") == [300]
    assert made.encode_prompt("the") == [300, *made.tokenizer.encode("the")], "a prompt begins as the documents did"
    assert made.tokenizer.vocabulary.bytes_of([300, 301, 302]) == b""
    plain = GPT2LMHeadModel.from_pretrained(folder)
    assert plain.config.eos_token_id == 301
    assert plain.config.bos_token_id == 300


def test_several_end_tokens_added_ones_and_the_samplers_defaults_stay(tmp_path, model):
    base = Path(shutil.copytree(model, tmp_path / "base"))
    whole = json.loads((base / "tokenizer.json").read_text())
    last = max(whole["model"]["vocab"], key=whole["model"]["vocab"].get)
    index = whole["model"]["vocab"].pop(last)
    whole["model"]["merges"] = [merge for merge in whole["model"]["merges"] if "".join(merge) != last]
    (base / "tokenizer.json").write_text(json.dumps(whole))
    (base / "added_tokens.json").write_text(json.dumps({"[NEW LINE]": index}))
    for name in ("config.json", "generation_config.json"):
        edit_json(base / name, eos_token_id=[0, 12])
    edit_json(base / "generation_config.json", min_p=0.05, dry_multiplier=0.8)  # and no do_sample
    folder = Bench(tmp_path, base).made("out", *QUICK)
    made, plain = check_folder(folder), GPT2LMHeadModel.from_pretrained(folder)
    assert made.end_ids == (0, 12)
    assert dict(made.defaults) == {"min_p": 0.05, "dry_multiplier": 0.8}
    assert made.tokenizer.encode("the[NEW LINE]") == [*made.tokenizer.encode("the"), index]
    assert plain.config.eos_token_id == plain.generation_config.eos_token_id == [0, 12]


def test_the_folder_says_where_it_is_from(bench, model):
    folder = bench.made("out", *QUICK, "--learning-rate", 1e-3)
    manifest = json.loads((folder / "rubric.json").read_text())
    made = check_folder(folder)
    assert made.fingerprint() == manifest["fingerprint"]
    assert manifest["source"] == "fine-tuned from tiny on friends.txt"
    training = manifest["training"]
    assert training["base"] == {"name": "tiny", "fingerprint": check_folder(model).fingerprint()}
    assert training["data"][0]["name"] == "friends.txt"
    assert len(training["data"][0]["sha256"]) == 64
    assert training["options"]["learning_rate"] == 1e-3
    assert set(training["losses"]) == {"0", "1", "2", "3", "4"}
    assert str(bench.root) not in (folder / "config.json").read_text() + (folder / "rubric.json").read_text()
    assert not list(folder.glob("*.bin")), "nothing in it is a pickle"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.long
def test_weights_are_written_as_asked(dtype, bench):
    from safetensors import safe_open

    folder = bench.made("out", *QUICK, "--dtype", dtype)
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {getattr(torch, dtype)}  # noqa: SIM118
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_three_shares_give_a_test_part_that_is_judged_before_and_after(bench):
    folder = bench.made("out", *QUICK, "--split", "70/20/10")
    told = run_json(folder)
    assert told["documents"] == {"train": 42, "validation": 12, "test": 6}
    assert [(e["step"], e["part"]) for e in told["evaluations"] if e["part"] == "test"] == [(0, "test"), (4, "test")]


def test_a_text_shorter_than_a_window_trains_too(tmp_path, model):
    bench = Bench(tmp_path, model, "the old king said to the young fox that the sea was far away one two three " * 3)
    folder = bench.made("out", "--steps", 3)
    assert run_json(folder)["history"][-1]["step"] == 3


@pytest.mark.long
def test_an_encoding_made_alone_trains_as_the_text_does(bench, capsys):

    from finetune.__main__ import main

    made = ["--model", str(bench.model), "--documents", "line"]
    assert main(["encode", str(bench.text), str(bench.root / "encoded"), *made]) == 0
    assert "60 documents, 917 tokens" in capsys.readouterr().out
    one = bench.made("one", *QUICK)
    other = bench.made("other", *QUICK, data=bench.root / "encoded")
    assert same_weights(one, other)


def test_a_finished_training_leaves_an_older_model_in_place_until_it_is_whole(bench, model, capsys):
    shutil.copytree(model, bench.root / "out")
    assert bench.train("out", *QUICK) == 1
    assert "exists already; choose another name, or add --force" in capsys.readouterr().err
    assert check_folder(bench.root / "out").fingerprint() == check_folder(model).fingerprint()
    bench.made("out", *QUICK, "--force", "--learning-rate", 1e-2)
    assert check_folder(bench.root / "out").fingerprint() != check_folder(model).fingerprint()


@pytest.mark.parametrize("preset", ["nshepperd", "gpt-2-simple", "summaries", "wikitext", "jokes", "blocks"])
def test_a_preset_says_what_it_stands_for_in_words_that_can_be_typed(preset):
    import shlex

    from finetune.__main__ import parser, spelled
    from finetune.presets import PRESETS

    typed = parser().parse_args(["a.txt", "--out", "b", *shlex.split(spelled(PRESETS[preset]))])
    assert PRESETS[preset].items() <= vars(typed).items()


@pytest.mark.parametrize("preset", ["nshepperd", "gpt-2-simple", "summaries", "wikitext", "jokes", "blocks"])
def test_what_is_given_comes_before_a_preset(preset):
    from finetune.option_checks import make_options
    from finetune.presets import PRESETS

    made = make_options({"seed": 5, "batch_size": 3}, preset)
    assert (made.seed, made.batch_size) == (5, 3)
    for name, value in PRESETS[preset].items():
        assert name == "batch_size" or getattr(made, name) == value
