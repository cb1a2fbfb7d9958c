"""A training that goes to ruin is not published, what it made stays, and one sentence says how to go on."""

import math
import re
from dataclasses import replace

import pytest
import torch
from conftest import make_model
from tuning import Bench, run_json

from finetune.divergence import check_not_diverged, how_to_go_on
from finetune.options import Options
from finetune.verdict import verdict
from generate import Refusal, Score

pytestmark = pytest.mark.long

WILD = ("--documents", "line", "--block-size", 32, "--batch-size", 4, "--steps", 8, "--warmup", 0, "--clip", 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny", seed=1)


@pytest.fixture
def bench(tmp_path, model):
    return Bench(tmp_path, model)


@pytest.mark.parametrize("more", [(), ("--split", "100/0", "--save-every", 0)], ids=["held out", "nothing held out"])
def test_a_diverged_training_is_not_published_and_its_checkpoint_stays(bench, capsys, more):
    assert bench.train("out", *WILD, "--learning-rate", 1, *more) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    found = re.fullmatch(
        r"finetune: It diverged, and was not put into models/: its loss is ([\d.e+]+) nats a token, where it was ([\d.]+) "
        r"before and guessing among 300 tokens has 5\.704\. Its checkpoints are in (\S+); begin anew with --force and a "
        r"--learning-rate below 1\.",
        told,
    )
    assert found, told
    assert float(found[1]) > float(found[2]) > 0
    assert bench.left() == {".out.training"}
    assert found[3] == str(bench.root / ".out.training")
    assert (bench.root / ".out.training" / "checkpoint-8" / "model.safetensors").is_file()
    assert bench.train("out", *WILD, "--learning-rate", 1e-3, *more, "--force") == 0
    assert bench.left() == {"out"}


def test_the_checkpoint_that_is_advised_can_be_gone_on_from(bench, capsys, monkeypatch):
    from finetune.trainer import Tuner

    real = Tuner.compute_loss
    with monkeypatch.context() as patch:
        ruined = lambda self, *a, **k: real(self, *a, **k) * (math.nan if self.state.global_step == 5 else 1)  # noqa: E731
        patch.setattr(Tuner, "compute_loss", ruined)
        assert bench.train("out", *WILD, "--learning-rate", 1e-3, "--save-every", 2, "--evaluate-every", 2) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    advice = re.search(r"with --model (\S+), another --out and a --learning-rate below 0\.001\.$", told)
    assert advice, told
    assert advice[1] == str(bench.root / ".out.training" / "checkpoint-4")
    made = bench.made("again", *WILD, "--learning-rate", 1e-4, model=advice[1])
    assert run_json(made)["model"]["name"] == "checkpoint-4"


def facts(held=(), trained=(), **more) -> dict:
    """A record; a loss of None was no number."""
    entry = lambda step, loss: {"step": step} | ({} if loss is None else {"loss": loss})  # noqa: E731
    return {
        "options": {"learning_rate": 1e-2},
        "evaluations": [entry(*found) | {"part": "validation"} for found in held],
        "history": [entry(*found) for found in trained],
    } | more


GUESS = math.log(300)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (facts([(0, 3.0), (10, GUESS)]), None),
        (facts([(0, 3.0), (10, GUESS + 0.01)]), "its loss is 5.714 nats a token, where it was 3.000 before"),
        (facts([(0, 9.0), (10, 8.0)]), None),  # never good, but better than it was
        (facts([(0, 3.0), (10, None)]), "the loss is not a number any more"),
        (facts([(0, 3.0), (5, 2.0), (10, 700.0)], best_step=5), None),
        (facts([], [(1, 3.0), (9, 4.0), (10, 5.0)]), None),
        (facts([], [(1, 3.0), (8, 5.0), (9, 7.0), (10, 9.0)]), "its loss is 7 nats a token, where it was 3.000 before"),
        (facts([], [(1, 3.0), (10, None)]), "the loss is not a number any more"),
    ],
)
def test_what_counts_is_the_loss_of_what_would_be_published(tmp_path, told, sentence):
    given = (torch.nn.Linear(2, 2), told, 300, tmp_path, Options(learning_rate=1e-2))
    if sentence is None:
        check_not_diverged(*given)
    else:
        with pytest.raises(Refusal, match=re.escape(sentence)):
            check_not_diverged(*given)


def test_weights_that_are_no_numbers_are_refused_whatever_the_losses_say(tmp_path):
    model = torch.nn.Linear(2, 2)
    model.bias.data[0] = math.nan
    with pytest.raises(Refusal, match="not a number"):
        check_not_diverged(model, facts([(0, 3.0), (10, 2.0)]), 300, tmp_path, Options())


def test_the_best_checkpoint_that_is_better_than_the_beginning_is_advised(tmp_path):
    for step in (2, 4, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
    told, options = facts([(0, 3.0), (2, 2.5), (4, 2.0), (6, 90.0)]), Options(learning_rate=1)
    assert f"from that of step 4 with --model {tmp_path}/checkpoint-4, another --out" in str(
        how_to_go_on(tmp_path, options, told)
    )
    anew = f"Its checkpoints are in {tmp_path}; begin anew with --force and a --learning-rate below 1."
    assert str(how_to_go_on(tmp_path, options, facts([(0, 3.0), (2, 4.0), (4, None), (6, 90.0)]))) == anew
    assert str(how_to_go_on(tmp_path, replace(options, lora=2), told)) == anew, "adapters are no model"
    assert "checkpoint-2," in str(how_to_go_on(tmp_path, options, facts([], [(1, 3.0), (2, 2.0), (4, 8.0), (6, 9.0)])))


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (facts([(0, 3.0), (5, 2.5), (10, 2.8)], [(1, 3.0), (5, 2.4), (10, 1.0)]), "training loss fell; train for less"),
        (
            facts([(0, 3.0), (5, 2.5), (10, 3.4)], [(1, 3.0), (5, 2.4), (10, 1.0)]),
            "training loss fell, and is above the 3.000 of before; train for less",
        ),
        (facts([], [(n, 3.0 + n / 10) for n in range(9)]), "It got worse: training loss rose from 3.000 to 3.800; try"),
        (facts([], [(n, 3.0 - n / 10) for n in range(9)]), ""),
        (facts([], [(1, 3.0), (2, 3.5)]), ""),
    ],
)
def test_a_model_that_got_worse_than_it_was_has_a_sentence(told, sentence):
    assert sentence in verdict(told)
    assert bool(verdict(told)) == bool(sentence)


def test_a_perplexity_of_a_hundred_digits_is_not_written_out():
    assert str(Score.of(3604.73, 10, 40)) == "perplexity 3.56e+156, 130.013 bits per byte"
    assert str(Score.of(50.0, 10, 40)) == "perplexity 148.41, 1.803 bits per byte"
