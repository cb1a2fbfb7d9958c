"""What a training takes where nobody says, what it says of its outcome, and how many steps fit into minutes."""

import pytest
from tuning import Bench, cut_at, run_json, same_weights

from finetune import pace
from finetune.defaults import choose_batch, choose_epochs, choose_rate
from finetune.option_checks import make_options
from finetune.options import Options
from finetune.verdict import verdict


@pytest.mark.parametrize(
    ("parameters", "options", "scratch", "low", "high"),
    [
        (7e6, {}, False, 1e-3, 1e-3),
        (124e6, {}, False, 5e-5, 1.5e-4),
        (345e6, {}, False, 2e-5, 6e-5),
        (1558e6, {}, False, 5e-6, 3e-5),
        (7e6, {"optimizer": "muon"}, False, 1e-3, 1e-3),
        (7e6, {"optimizer": "muon"}, True, 3e-3, 5e-3),
        (124e6, {"lora": 8}, False, 1e-4, 5e-4),
        (7e6, {}, True, 1.5e-3, 3e-3),
        (1e3, {}, False, 3e-3, 3e-3),
    ],
)
def test_small_models_get_large_rates_and_large_models_small_ones(parameters, options, scratch, low, high):
    rate, why = choose_rate(int(parameters), Options(**options), scratch)
    assert low <= rate <= high
    assert "parameters" in why


@pytest.mark.parametrize(
    ("windows", "batch", "epochs"), [(6, 1, 20), (26, 1, 16), (100, 4, 16), (1000, 8, 4), (100_000, 8, 3)]
)
def test_a_small_text_is_read_more_often_in_smaller_batches(windows, batch, epochs):
    assert choose_batch(windows, 1) == batch
    assert choose_epochs(-(-windows // batch)) == epochs


def test_several_processes_have_a_window_each_at_least():
    assert choose_batch(6, 4) == 4


@pytest.mark.long
def test_a_training_says_what_it_chose_and_keeps_it(bench, capsys):
    folder = bench.made("out", "--documents", "line", "--log-every", 100)
    told = capsys.readouterr().out
    assert "Learning rate 0.003, chosen for 0.036M parameters; --learning-rate takes another." in told
    assert "20 epochs in batches of 1, chosen for a text this small" in told
    kept = run_json(folder)["options"]
    assert (kept["learning_rate"], kept["batch_size"], kept["epochs"]) == (0.003, 1, 20)
    bench.made("other", "--documents", "line", "--learning-rate", 1e-4, "--steps", 2, "--batch-size", 2)
    assert "chosen" not in capsys.readouterr().out


@pytest.mark.long
def test_what_was_chosen_stays_when_a_training_is_resumed(bench):
    options = ("--documents", "line", "--epochs", 4)
    whole = bench.made("whole", *options)
    with cut_at(9):
        assert bench.train("parted", *options) == 130
    assert same_weights(whole, bench.made("parted", *options, "--resume"))


def facts(held, trained=((1, 3.0), (10, 2.0)), **more) -> dict:
    return {
        "options": {"learning_rate": 1e-4},
        "evaluations": [{"step": step, "part": "validation", "loss": loss} for step, loss in held],
        "history": [{"step": step, "loss": loss} for step, loss in trained],
    } | more


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (facts([(0, 3.0), (10, 2.0)]), ""),
        (facts([(0, 3.0)]), ""),
        (facts([]), ""),
        (
            facts([(0, 3.0), (10, 2.999)]),
            "hardly learned: held-out loss went from 3.000 to 2.999; try --learning-rate 5e-04",
        ),
        (
            facts([(0, 3.0), (5, 2.5), (10, 2.8)], [(1, 3.0), (5, 2.4), (10, 1.0)]),
            "by heart since step 5: held-out loss rose from 2.500 to 2.800 while training loss fell; train for less",
        ),
        (
            facts([(0, 3.0), (5, 2.5), (10, 2.8)], [(1, 3.0), (5, 2.4), (10, 1.0)], best_step=5),
            "the weights of step 5 were kept",
        ),
        (facts([(0, 3.0), (10, 3.5)], [(1, 3.0), (10, 3.4)]), "got worse: held-out loss rose from 3.000 to 3.500; try"),
    ],
)
def test_the_numbers_of_a_training_become_advice(told, sentence):
    assert sentence in verdict(told)
    assert bool(verdict(told)) == bool(sentence)


def test_a_rate_that_is_too_small_is_told_at_the_end(bench, capsys):
    bench.made("out", "--documents", "line", "--steps", 5, "--learning-rate", 1e-7)
    assert "It has hardly learned: held-out loss went from" in capsys.readouterr().out


def test_learning_by_heart_is_told_with_its_step(tmp_path, model, capsys):
    bench = Bench(tmp_path, model, "one two three one two three\n" * 40)
    (tmp_path / "held.txt").write_text("the old king said to the young fox that the sea was far away\n" * 10)
    bench.made(
        "out", "--documents", "line", "--validation", tmp_path / "held.txt", "--steps", 16, "--evaluate-every", 4,
        "--learning-rate", 5e-3, "--warmup", 0, "--dropout", 0,
    )  # fmt: skip
    assert "It was learning by heart since step" in capsys.readouterr().out


def test_steps_fit_into_what_is_left_beside_evaluations_and_samples():
    plain = Options(sample_every=0, evaluate_every=0)
    assert pace.steps_in(100, 1.0, plain, 0.0, 0.0) == 97
    assert pace.steps_in(100, 1.0, Options(), 1.0, 2.0) == 67, "ten of each"
    assert pace.steps_in(100, 1.0, Options(evaluate_every=10, sample_every=5), 5.0, 2.5) == 44, (
        "each step costs one more, and the last two"
    )
    assert pace.steps_in(-5, 1.0, plain, 0.0, 0.0) == 1


@pytest.mark.long
def test_minutes_become_steps_once_and_resume_keeps_them(bench, capsys):
    options = ("--documents", "line", "--minutes", 0.2, "--log-every", 100, "--batch-size", 4)
    with cut_at(9):
        assert bench.train("parted", *options) == 130
    steps = run_json(bench.root / ".parted.training")["steps"]
    assert f"{steps:,} of them in 0.2 minutes" in capsys.readouterr().out
    parted = bench.made("parted", *options, "--resume")
    assert "A step takes" not in capsys.readouterr().out, "it is not measured again"
    assert run_json(parted)["history"][-1]["step"] == steps
    given = tuple({"--minutes": "--steps", 0.2: steps}.get(word, word) for word in options)
    assert same_weights(parted, bench.made("whole", *given)), "measuring left no trace in what was learned"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"minutes": 5, "steps": 10}, "Give --steps 10 or --minutes 5, not both"),
        ({"minutes": float("nan")}, "--minutes must be from 0 to 1,000,000, not nan"),
        ({"cooldown": 5}, "--cooldown 5 is for --schedule constant; cosine falls by itself"),
        (
            {"ema": 5, "schedule": "constant"},
            "--ema 5 averages while the rate falls; --schedule constant needs a --cooldown",
        ),
        ({"weight_decay": "1:0", "schedule": "constant"}, "--weight-decay 1:0 changes as the rate falls"),
        ({"weight_decay": "1:2:3"}, "--weight-decay must be a number from 0 to 10, or two such as 0.8:0, not '1:2:3'"),
        ({"weight_decay": "nan"}, "--weight-decay must be a number from 0 to 10"),
        ({"weight_decay": "0.1:11"}, "--weight-decay must be a number from 0 to 10"),
        ({"distill_weight": 1.5}, "--distill-weight must be from 0 to 1, not 1.5"),
        ({"shuffle": "all"}, "--shuffle must be one of auto, documents, windows, not 'all'"),
    ],
)
def test_what_rules_each_other_out_is_named(given, sentence):
    from generate import Refusal

    with pytest.raises(Refusal) as refusal:
        make_options(given)
    assert sentence in str(refusal.value)
