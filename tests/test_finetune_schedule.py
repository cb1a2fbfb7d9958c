"""Rate, weight decay and average over the steps, each against a plain second implementation; and trainings that branch."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel
from tuning import cut_at, losses, run_json, same_weights, weights

from finetune.__main__ import main
from finetune.option_checks import make_options
from finetune.options import Options
from finetune.schedule import falling_steps, weight_decay_at

COMMON = ("--documents", "line", "--block-size", 32, "--batch-size", 4, "--learning-rate", 1e-3, "--dropout", 0)
CONSTANT = (*COMMON, "--schedule", "constant", "--warmup", 3, "--log-every", 1)


def rates(folder) -> list[float]:
    return [entry["learning_rate"] for entry in run_json(folder)["history"]]


def test_a_constant_rate_rises_stays_and_is_cooled_down_to_nothing(bench):
    folder = bench.made("out", *CONSTANT, "--steps", 20, "--cooldown", 5)
    up, down = [0, 1 / 3, 2 / 3], [1, 0.8, 0.6, 0.4, 0.2]
    assert rates(folder) == pytest.approx([1e-3 * share for share in (*up, *[1] * 12, *down)])


@pytest.mark.parametrize(
    ("options", "steps", "falling"),
    [
        ({"schedule": "constant"}, 100, 0),
        ({"schedule": "constant", "cooldown": 30}, 100, 30),
        ({"schedule": "constant", "cooldown": 300}, 100, 95),
        ({"schedule": "cosine"}, 100, 95),
        ({"schedule": "linear", "warmup": 10}, 100, 90),
        ({"schedule": "stable"}, 100, 50),
        ({"schedule": "stable", "stable": 0.8, "warmup": 0}, 100, 20),
    ],
)
def test_the_rate_falls_in_the_last_steps_of_each_schedule(options, steps, falling):
    assert falling_steps(make_options(options), steps) == falling


def test_weight_decay_is_held_until_the_rate_falls_and_then_goes_evenly_to_its_second_value():
    options = Options(schedule="constant", cooldown=4, weight_decay="0.8:0.2")
    assert [weight_decay_at(step, options, 10) for step in range(10)] == pytest.approx(
        [0.8] * 6 + [0.8, 0.65, 0.5, 0.35]
    )


def plain_adamw(model, batches, rate, decays, betas=(0.9, 0.999), eps=1e-8):
    """AdamW written out: the weights after every step. `decays` has a weight decay for each."""
    names = dict(model.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in names.items()}
    after = []
    for step, (batch, decay) in enumerate(zip(batches, decays, strict=True), 1):
        model.zero_grad()
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
        labels = batch["labels"][:, 1:]
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        nats.backward()
        norm = torch.sqrt(sum(p.grad.pow(2).sum() for p in names.values()))
        share = min(1.0, 1.0 / (float(norm) + 1e-6))
        with torch.no_grad():
            for name, p in names.items():
                first, second = moments[name]
                gradient = p.grad * share
                if p.ndim == 2:
                    p.mul_(1 - rate(step - 1) * decay)
                first.lerp_(gradient, 1 - betas[0])
                second.mul_(betas[1]).add_((1 - betas[1]) * gradient**2)
                size = (second / (1 - betas[1] ** step)).sqrt() + eps
                p.sub_(rate(step - 1) * first / (1 - betas[0] ** step) / size)
        after.append({name: p.detach().clone() for name, p in names.items()})
    return after


def seen_batches(monkeypatch) -> list:
    """The batches that a training is given, as they come."""
    from finetune.trainer import Tuner

    batches, real = [], Tuner.compute_loss

    def spy(self, model, inputs, *args, **kwargs):
        batches.append({name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)})
        return real(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(Tuner, "compute_loss", spy)
    return batches


def test_decay_and_average_are_those_of_a_plain_loop(bench, model, monkeypatch):
    batches = seen_batches(monkeypatch)
    folder = bench.made(
        "out", *COMMON, "--schedule", "constant", "--warmup", 0, "--steps", 12, "--cooldown", 8, "--ema", 3,
        "--weight-decay", "2:0",
    )  # fmt: skip
    plain = GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()
    rate = lambda step: 1e-3 * (1 if step < 4 else (12 - step) / 8)  # noqa: E731
    after = plain_adamw(plain, batches, rate, [2.0] * 4 + [2 * (12 - step) / 8 for step in range(4, 12)])
    average = after[4]
    for n, found in enumerate(after[5:], 2):
        average = {name: value + (found[name] - value) / min(n, 3) for name, value in average.items()}
    made = weights(folder)
    for name in [name for name in average if name.endswith("c_attn.bias")]:  # keys' have no gradient but rounding
        made[name][32:64] = average[name][32:64] = 0
    for name, value in average.items():
        assert made[name] == pytest.approx(value, abs=1e-5), name
    assert any(float((made[name] - after[-1][name]).abs().max()) > 1e-4 for name in average), "no mere last weights"


@pytest.mark.long
def test_the_average_is_evaluated_and_the_raw_weights_are_trained_on(bench):
    options = (*COMMON, "--steps", 20, "--schedule", "linear", "--log-every", 1)
    raw, averaged = bench.made("raw", *options), bench.made("averaged", *options, "--ema", 8)
    assert losses(raw) == losses(averaged), "the training itself does not know of the average"
    assert not same_weights(raw, averaged)
    one, other = (run_json(folder)["evaluations"] for folder in (raw, averaged))
    assert one[0]["loss"] == other[0]["loss"], "before the first step there is nothing to average"
    assert one[-1]["loss"] != other[-1]["loss"]


def test_what_is_evaluated_at_the_end_is_what_is_written(bench, capsys):
    (bench.root / "held.txt").write_text("the young king said that the fox was far away\n" * 5)
    folder = bench.made("out", *COMMON, "--steps", 10, "--ema", 5, "--validation", bench.root / "held.txt")
    told = run_json(folder)["evaluations"][-1]["loss"]
    capsys.readouterr()
    assert main(["evaluate", str(folder), str(bench.root / "held.txt"), "--documents", "line", "--block-size", "32",
                 "--json", "--device", "cpu", "--cache", str(bench.root / "cache")]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(told, abs=1e-5)


@pytest.mark.long
def test_a_checkpoint_keeps_raw_weights_and_their_average(bench, capsys):
    with cut_at(15):
        assert bench.train("out", *COMMON, "--steps", 20, "--schedule", "linear", "--ema", 8) == 130
    (checkpoint,) = (bench.root / ".out.training").glob("checkpoint-15")
    raw, average = load_file(checkpoint / "model.safetensors"), load_file(checkpoint / "average.safetensors")
    assert set(average) == set(raw) - {"lm_head.weight"}
    assert not torch.equal(raw["transformer.wte.weight"], average["transformer.wte.weight"])
    (checkpoint / "average.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert bench.train("out", *COMMON, "--steps", 20, "--schedule", "linear", "--ema", 8, "--resume") == 1
    assert "average.safetensors is missing or damaged" in capsys.readouterr().err


def branched(bench, name, *options) -> int:
    return main(["branch", str(bench.root / "out"), str(bench.root / name), *map(str, options)])


@pytest.mark.long
def test_a_branch_is_the_training_that_was_to_be_cooled_down_there(bench, capsys):
    """A training of unknown length, cut at step 14 and branched, equals one that knew from the beginning."""
    more = ("--ema", 4, "--weight-decay", "0.5:0")
    whole = bench.made("whole", *CONSTANT, "--steps", 20, "--cooldown", 6, *more)
    with cut_at(14):
        assert bench.train("out", *CONSTANT, "--steps", 1000, "--weight-decay", 0.5) == 130
    assert branched(bench, "noon", "--cooldown", 6, *more) == 0
    assert "begins at step 14 of" in capsys.readouterr().out
    noon = bench.made("noon", *CONSTANT, "--resume")
    assert same_weights(whole, noon)
    assert run_json(noon)["branch"] == {"of": "out", "step": 14}
    assert losses(noon) == losses(whole)
    assert (bench.root / ".out.training" / "checkpoint-14").is_dir(), "the training itself is left as it was"
    with cut_at(16):
        assert bench.train("out", *CONSTANT, "--steps", 1000, "--weight-decay", 0.5, "--resume") == 130


@pytest.mark.long
def test_a_branch_that_cannot_be_says_why(bench, capsys):
    def refused(*options):
        assert branched(bench, *options) == 1
        return capsys.readouterr().err

    assert "There is no training of" in refused("noon", "--cooldown", 6)
    with cut_at(10):
        bench.train("out", *CONSTANT, "--steps", 1000)
    assert "is the training itself" in refused("out", "--cooldown", 6)
    assert "--cooldown must be at least 1 step, not 0" in refused("noon", "--cooldown", 0)
    assert "--weight-decay must be a number" in refused("noon", "--cooldown", 6, "--weight-decay", "much")
    assert branched(bench, "noon", "--cooldown", 6) == 0
    assert "is being trained already" in refused("noon", "--cooldown", 6)
    assert branched(bench, "noon", "--cooldown", 6, "--force") == 0
    shutil.rmtree(bench.root / ".out.training")
    with cut_at(2):
        bench.train("out", *CONSTANT, "--steps", 1000)
    assert "Checkpoint 2 is in the warm-up of 3 steps still" in refused("dawn", "--cooldown", 6)
    shutil.rmtree(bench.root / ".out.training")
    with cut_at(10):
        bench.train("out", *COMMON, "--steps", 1000)
    assert "falls by itself (--schedule cosine)" in refused("dusk", "--cooldown", 6)
