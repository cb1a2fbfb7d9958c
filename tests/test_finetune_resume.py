"""A training that is cut, killed, shared out or watched ends as one that was left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, finished, make_model
from tuning import Bench, cut_at, losses, run_json, same_weights
from waiting import until

from generate import half_made

pytestmark = pytest.mark.long

COMMON = (
    "--documents",
    "line",
    "--block-size",
    32,
    "--batch-size",
    4,
    "--steps",
    40,
    "--learning-rate",
    1e-3,
    "--log-every",
    5,
)


@pytest.mark.parametrize(
    ("step", "more"),
    [
        (17, ()),
        (20, ()),
        (27, ()),
        (17, ("--optimizer", "muon")),
        (18, ("--lora", 2)),
        (19, ("--gradient-accumulation", 2, "--schedule", "stable")),
        (
            33,
            ("--ema", 9, "--weight-decay", "0.8:0", "--schedule", "constant", "--cooldown", 20, "--optimizer", "muon"),
        ),
        (17, ("--ema", 9, "--lora", 2, "--shuffle", "windows")),
    ],
    ids=[
        "amid an epoch",
        "at a checkpoint",
        "at an epoch's end",
        "muon",
        "lora",
        "accumulated",
        "averaged",
        "adapters averaged",
    ],
)
def test_a_training_cut_and_resumed_equals_an_uninterrupted_one(step, more, bench, capsys):
    whole = bench.made("whole", *COMMON, *more)
    with cut_at(step):
        assert bench.train("parted", *COMMON, *more) == 130
    assert f"Stopped and saved at step {step} of 40. The same command with --resume" in capsys.readouterr().out
    assert not (bench.root / "parted").exists(), "nothing is shown before it is whole"
    parted = bench.made("parted", *COMMON, *more, "--resume")
    assert same_weights(whole, parted)
    one, other = (run_json(f)["evaluations"] for f in (whole, parted))
    assert one == other
    final = [entry for entry in run_json(whole)["history"] if entry["step"] > step + 5]
    assert [e["loss"] for e in run_json(parted)["history"] if e["step"] > step + 5] == [e["loss"] for e in final]
    assert bench.left() == {"whole", "parted"}, "its checkpoints and its log went with it"


ALL_ON = (
    *COMMON, "--shuffle", "documents", "--ema", 7, "--weight-decay", "0.8:0", "--schedule", "constant", "--cooldown", 15,
    "--optimizer", "muon", "--gradient-accumulation", 2, "--distill-weight", 0.4,
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("teachers") / "teacher", seed=2, n_embd=48)


@pytest.mark.parametrize("step", [13, 31])
def test_with_everything_on_a_cut_training_ends_as_an_uninterrupted_one(step, bench, teacher):
    options = (*ALL_ON, "--teacher", teacher, "--layers", 3, "--dropout", 0.2)
    whole = bench.made("whole", *options)
    with cut_at(step):
        assert bench.train("parted", *options) == 130
    assert same_weights(whole, bench.made("parted", *options, "--resume"))


def test_dropout_is_drawn_as_if_nothing_had_happened(bench):
    whole = bench.made("whole", *COMMON, "--dropout", 0.3)
    other = bench.made("other", *COMMON, "--dropout", 0.0)
    assert not same_weights(whole, other), "there is dropout"
    with cut_at(13):
        bench.train("parted", *COMMON, "--dropout", 0.3)
    assert same_weights(whole, bench.made("parted", *COMMON, "--dropout", 0.3, "--resume"))


def test_the_same_command_twice_gives_the_same_weights_and_another_seed_others(bench):
    one, other, third = (bench.made(f"n{n}", *COMMON, "--seed", seed) for n, seed in enumerate((1, 1, 2)))
    assert same_weights(one, other)
    assert not same_weights(one, third)


def test_what_would_change_the_outcome_cannot_change_on_the_way(bench, capsys):
    with cut_at(10):
        bench.train("out", *COMMON)
    assert bench.train("out", *COMMON, "--resume", "--learning-rate", 1) == 1
    assert "--learning-rate was 0.001 when this training began, and cannot become 1.0" in capsys.readouterr().err
    bench.text.write_text(bench.text.read_text() + "one more line\n")
    assert bench.train("out", *COMMON, "--resume") == 1
    assert "not the one this training began with" in capsys.readouterr().err


def test_an_unfinished_training_is_not_overwritten_unasked(bench, capsys):
    with cut_at(10):
        bench.train("out", *COMMON)
    assert bench.train("out", *COMMON) == 1
    assert "was being trained up to step 10; go on with --resume, or begin anew with --force" in capsys.readouterr().err
    assert bench.train("out", *COMMON, "--force") == 0


def command(bench, name, *options, launcher=()):
    return [sys.executable, *launcher, "-m", "finetune", *bench.arguments(name, *options)]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_a_killed_training_goes_on_from_its_last_complete_checkpoint(bench):
    options = (*COMMON, "--save-every", 4)
    whole = bench.made("whole", *options)
    work = bench.root / ".parted.training"
    process = subprocess.Popen(command(bench, "parted", *options), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    until(lambda: (work / "checkpoint-8").exists() or process.poll() is not None, 90, "a checkpoint")
    process.kill()
    process.wait()
    assert list(work.glob("checkpoint-*")), "it was killed with something to go on from"
    assert same_weights(whole, bench.made("parted", *options, "--resume"))


class Killed(BaseException):
    """As nothing catches it."""


def test_a_training_that_is_killed_while_it_tidies_up_leaves_its_model_and_nothing_that_looks_like_a_training(
    bench, monkeypatch
):
    real = shutil.rmtree

    def rmtree(path, **options):
        if (Path(path) / "run.json").exists() and (Path(path) / "checkpoint-40").exists():
            raise Killed
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        with pytest.raises(Killed):
            bench.train("out", *COMMON)
    assert run_json(bench.root / "out")["state"] == "done"
    assert not (bench.root / ".out.training").exists()
    assert half_made(bench.root / "out")
    assert bench.train("out", *COMMON, "--force") == 0
    assert bench.left() == {"out"}


def test_ctrl_c_in_a_terminal_saves_and_says_how_to_go_on(bench):
    options = ("--documents", "line", "--steps", 100000, "--log-every", 1, "--save-every", 0, "--evaluate-every", 0)
    process = subprocess.Popen(
        command(bench, "out", *options),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = bench.root / ".out.training" / "run.json"
    until(lambda: process.poll() is not None or (log.exists() and run_json(log.parent)["history"]), 90, "a first step")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume goes on from there" in out
    assert "Traceback" not in err
    (checkpoint,) = (bench.root / ".out.training").glob("checkpoint-*")
    assert run_json(checkpoint.parent)["state"] == "stopped"


@pytest.mark.parametrize("more", [(), (*ALL_ON, "--teacher", "TEACHER")], ids=["plain", "everything on"])
def test_two_processes_equal_one(more, bench, teacher):
    more = tuple(teacher if word == "TEACHER" else word for word in more)
    options = (*COMMON, *more, "--dropout", 0, "--steps", 20, "--log-every", 1)
    one = bench.made("one", *options)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")
    done = subprocess.run(
        command(bench, "two", *options, launcher=launcher),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = bench.root / "two"
    assert run_json(two)["processes"] == 2
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert [e["loss"] for e in run_json(two)["evaluations"]] == pytest.approx(
        [e["loss"] for e in run_json(one)["evaluations"]], abs=1e-4
    )


def test_only_so_many_checkpoints_are_kept_and_each_is_whole(bench):
    with cut_at(23):
        bench.train("out", *COMMON, "--save-every", 5, "--keep", 3)
    work = bench.root / ".out.training"
    assert {path.name for path in work.glob("checkpoint-*")} == {"checkpoint-15", "checkpoint-20", "checkpoint-23"}
    for checkpoint in work.glob("checkpoint-*"):
        assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
        assert (checkpoint / "tokenizer.json").exists()
    assert not list(work.glob(".*"))


def test_a_checkpoint_is_a_model_that_the_page_serves(bench, tmp_path):
    from generate import check_folder

    with cut_at(10):
        bench.train("out", *COMMON)
    (checkpoint,) = (bench.root / ".out.training").glob("checkpoint-10")
    copy = shutil.copytree(checkpoint, tmp_path / "kept")
    assert check_folder(copy).end_id == 0


def test_when_it_gets_no_better_it_stops_and_the_best_is_kept(tmp_path, model):
    # a few words again and again, with others held out: it must soon get worse at those
    bench = Bench(tmp_path, model, "one two three one two three\n" * 40)
    (tmp_path / "held.txt").write_text("the old king said to the young fox that the sea was far away\n" * 10)
    options = (
        "--documents", "line", "--validation", tmp_path / "held.txt", "--patience", 2, "--evaluate-every", 5, "--steps", 400,
        "--learning-rate", 1e-2, "--schedule", "constant", "--warmup", 0, "--keep", 1, "--dropout", 0,
    )  # fmt: skip
    folder = bench.made("out", *options)
    told = run_json(folder)
    found = [(e["step"], e["loss"]) for e in told["evaluations"]]
    best = min(found, key=lambda f: f[1])
    assert told["best_step"] == best[0] < found[-1][0]
    assert told["history"][-1]["step"] < 400
    from finetune.evaluate import evaluate
    from finetune.option_checks import make_options
    from generate import check_folder

    options = make_options({"documents": "line", "device": "cpu"})
    score = evaluate(check_folder(folder), [str(tmp_path / "held.txt")], options, tmp_path / "cache")
    assert score.nats == pytest.approx(best[1], abs=1e-4)


def test_a_loss_that_is_no_number_ends_it_with_a_sentence_and_keeps_the_last_checkpoint(bench, capsys, monkeypatch):
    from finetune.trainer import Tuner

    real = Tuner.compute_loss
    with monkeypatch.context() as patch:
        patch.setattr(
            Tuner,
            "compute_loss",
            lambda self, *a, **k: real(self, *a, **k) * (float("nan") if self.state.global_step == 27 else 1),
        )
        assert bench.train("out", *COMMON, "--save-every", 10) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(
        "finetune: The loss is not a number any more at step 30; lower --learning-rate (it is 0.001)"
    )
    assert {path.name for path in (bench.root / ".out.training").glob("checkpoint-*")} == {
        "checkpoint-10",
        "checkpoint-20",
    }


def test_event_files_for_tensorboard_tell_the_losses(bench):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = bench.made("out", *COMMON)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [round(e.value, 4) for e in events.Scalars("train/loss")] == [round(x, 4) for x in losses(folder)]
    assert {"eval/loss", "eval/perplexity", "train/learning_rate"} <= set(events.Tags()["scalars"])


def test_a_sample_is_what_the_finished_model_writes(bench):
    from generate import LocalEngine, Request, Sampling, check_folder

    folder = bench.made("out", *COMMON, "--sample-every", 20, "--sample-prompt", "the old", "--sample-length", 12)
    told = run_json(folder)["samples"]
    assert [sample["step"] for sample in told] == [20, 40]
    made = check_folder(folder)
    engine = LocalEngine(folder.parent, "cpu", "float32", 1).start(made)
    try:
        sampling = Sampling(max_new_tokens=12, temperature=0.8, top_k=40, seed=1)
        request = Request(made, sampling)
        run = finished(engine.submit(request, request.new_log(made.encode_prompt("the old"))))
    finally:
        engine.close()
    written = made.tokenizer.vocabulary.bytes_of(run.samples[0].read()["id"].tolist())
    assert told[-1]["text"] == written.decode("utf-8", "replace")


def test_sampling_on_the_way_changes_nothing(bench):
    one = bench.made("one", *COMMON, "--sample-every", 7, "--sample-length", 5)
    other = bench.made("other", *COMMON, "--sample-every", 0, "--evaluate-every", 0)
    assert same_weights(one, other)
    assert torch.equal(torch.tensor(losses(one)), torch.tensor(losses(other)))


def test_ctrl_c_at_the_last_step_comes_too_late(bench):
    whole = bench.made("whole", *COMMON)
    with cut_at(40):
        late = bench.made("late", *COMMON)
    assert same_weights(whole, late)
    assert run_json(late)["history"][-1]["step"] == 40


def test_where_only_the_end_was_missing_nothing_is_trained_again(bench, monkeypatch):
    from finetune import result

    whole = bench.made("whole", *COMMON)
    with monkeypatch.context() as patch:
        patch.setattr(result, "prove", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert bench.train("out", *COMMON) == 1
    assert not (bench.root / "out").exists()
    assert same_weights(whole, bench.made("out", *COMMON, "--resume"))


def test_a_slip_after_force_costs_no_checkpoints(bench, capsys):
    with cut_at(10):
        bench.train("out", *COMMON)
    assert bench.train("out", *COMMON, "--force", data=bench.root / "frends.txt") == 1
    assert "There is no" in capsys.readouterr().err
    assert bench.train("out", *COMMON, "--resume") == 0


def test_a_training_leaves_those_with_longer_names_alone(bench):
    with cut_at(10):
        bench.train("out-2", *COMMON)
    bench.made("out", *COMMON)
    assert bench.train("out-2", *COMMON, "--resume") == 0
