"""What a training must bring when it is given minutes: a newcomer's command learns, and a compiled step is the same step."""

import csv
import random

import pytest
from conftest import MODELS, make_model
from test_finetune_learns import PLACES, accuracy, document
from tuning import Bench, losses

from finetune.__main__ import main

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_with_nothing_but_a_table_and_a_model_a_hidden_pattern_is_learned(tmp_path, capsys):
    numbers = random.Random(1)
    documents = [document(numbers.choice(list(PLACES)), numbers) for _ in range(800)]
    training, held = documents[:700], [d for d in documents[700:] if d not in documents[:700]][:60]
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *((n, f"{a}{b}.") for n, (a, b) in enumerate(training))])
    out = tmp_path / "friends"
    assert main([str(tmp_path / "data.csv"), "--column", "text", "--model", "storyteller", "--out", str(out)]) == 0
    assert accuracy(MODELS / "storyteller", held) < 0.3
    assert accuracy(out, held) >= 0.95
    told = capsys.readouterr().out
    assert "Learning rate 0.001, chosen for 6.9M parameters" in told
    assert "hardly learned" not in told


def test_a_compiled_step_is_the_same_step(tmp_path):
    bench = Bench(tmp_path, make_model(tmp_path / "models" / "tiny", seed=1))
    options = (
        "--documents", "line", "--block-size", 32, "--batch-size", 4, "--steps", 12, "--log-every", 1, "--dropout", 0,
        "--learning-rate", 1e-3, "--ema", 3,
    )  # fmt: skip
    plain, compiled = bench.made("plain", *options), bench.made("compiled", *options, "--compile")
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-4)
