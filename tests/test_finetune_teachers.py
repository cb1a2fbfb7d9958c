"""Learning from larger models: the loss against its formula, who may teach whom, and whether it helps."""

import pytest
import torch
from conftest import make_model
from test_finetune_schedule import seen_batches
from transformers import AutoTokenizer, GPT2LMHeadModel
from tuning import Bench, losses, run_json

from generate import check_folder

pytestmark = pytest.mark.long

COMMON = (
    "--documents",
    "line",
    "--block-size",
    32,
    "--batch-size",
    4,
    "--dropout",
    0,
    "--log-every",
    1,
    "--split",
    "100/0",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model, two larger ones of the same vocabulary, and one of another."""
    root = tmp_path_factory.mktemp("models")
    tiny = make_model(root / "tiny", seed=1)
    make_model(root / "one", seed=2, n_embd=96, n_head=2)
    make_model(root / "two", seed=3, n_embd=64, n_head=2)
    make_model(root / "short", seed=4, n_positions=16)
    return root, tiny


@pytest.fixture
def bench(tmp_path, models):
    return Bench(tmp_path, models[1])


def plain_loss(student, teachers, batch, weight) -> float:
    """One formula, written out row by row."""
    total, count = 0.0, 0
    with torch.inference_mode():
        logprobs = student(input_ids=batch["input_ids"]).logits.double().log_softmax(-1)
        wanted = sum(t(input_ids=batch["input_ids"]).logits.double().softmax(-1) for t in teachers) / len(teachers)
    for row, labels in enumerate(batch["labels"].tolist()):
        for place, label in enumerate(labels[1:]):
            if label != -100:
                soft = -float((wanted[row, place] * logprobs[row, place]).sum())
                total += weight * soft - (1 - weight) * float(logprobs[row, place, label])
                count += 1
    return total / count


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_the_formula(weight, bench, models, monkeypatch):
    root, tiny = models
    batches = seen_batches(monkeypatch)
    folder = bench.made(
        "out", *COMMON, "--steps", 1, "--teacher", root / "one", "--teacher", root / "two", "--distill-weight", weight
    )
    student, *teachers = (
        GPT2LMHeadModel.from_pretrained(path, dtype=torch.float32).eval() for path in (tiny, root / "one", root / "two")
    )
    assert losses(folder)[0] == pytest.approx(plain_loss(student, teachers, batches[0], weight), abs=1e-5)
    assert [t["name"] for t in run_json(folder)["teachers"]] == ["one", "two"]


def test_accumulated_batches_with_a_teacher_are_one_large_batch(bench, models):
    options = (*COMMON, "--steps", 4, "--learning-rate", 1e-3, "--teacher", models[0] / "one")
    one = bench.made("one", *options)
    other = bench.made("other", *options, "--batch-size", 1, "--gradient-accumulation", 4)
    assert losses(one) == pytest.approx(losses(other), abs=1e-5)


def test_who_cannot_teach_is_told_why(bench, models, capsys):
    root = models[0]

    def refused(*options, **kwargs):
        assert bench.train("out", *COMMON, "--steps", 2, *options, **kwargs) == 1
        return capsys.readouterr().err

    from conftest import MODELS

    assert "--teacher storyteller has another vocabulary than the model that learns" in refused(
        "--teacher", MODELS / "storyteller"
    )
    assert "--teacher short sees 16 tokens at once, and a window has 32; give --block-size 16" in refused(
        "--teacher", root / "short"
    )
    assert "--special-tokens adds tokens that --teacher one does not know" in refused(
        "--teacher", root / "one", "--special-tokens", "eos"
    )
    assert "--teacher 'nobody': there is no such folder" in refused("--teacher", "nobody")


def test_a_teacher_cannot_change_on_the_way(bench, models, capsys):
    from tuning import cut_at

    root = models[0]
    with cut_at(3):
        assert bench.train("out", *COMMON, "--steps", 6, "--teacher", root / "one") == 130
    assert bench.train("out", *COMMON, "--steps", 6, "--resume") == 1
    assert "This training began with one for --teacher" in capsys.readouterr().err
    assert bench.train("out", *COMMON, "--steps", 6, "--teacher", root / "one", "--resume") == 0


def test_a_new_model_takes_over_its_teachers_tokens(bench, models):
    folder = bench.made(
        "small", *COMMON, "--steps", 2, "--layers", 1, "--width", 32, "--teacher", models[0] / "one", model=""
    )
    made, teacher = check_folder(folder), check_folder(models[0] / "one")
    assert made.config.n_embd == 32
    assert made.tokenizer.encode("the old king") == teacher.tokenizer.encode("the old king")
    assert made.end_id == teacher.end_id
    assert (
        AutoTokenizer.from_pretrained(folder).get_vocab()
        == AutoTokenizer.from_pretrained(models[0] / "one").get_vocab()
    )


def test_a_new_model_can_have_the_tokens_of_any(bench, models, capsys):
    options = (*COMMON, "--steps", 2, "--layers", 1, "--width", 32)
    folder = bench.made("new", *options, "--tokenizer", models[1], model="")
    assert check_folder(folder).tokenizer.encode("the old") == check_folder(models[1]).tokenizer.encode("the old")
    assert bench.train("other", *options, "--tokenizer", models[1], "--vocab", 500, model="") == 1
    assert "--vocab is for a new tokenizer; that of tiny has its own size" in capsys.readouterr().err
