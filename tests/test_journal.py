"""What a training and a conversion tell the program that started them, and that they end with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tuning import run_json, same_weights
from waiting import until

import convert.__main__
import finetune.__main__
from generate import Journal

COMMON = ("--documents", "line", "--block-size", 32, "--batch-size", 4, "--steps", 12, "--learning-rate", 1e-3)


def events(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def told(file: Path, kind: str) -> list[dict]:
    """The events of one kind as run.json has them."""
    return [
        {k: v for k, v in event.items() if k not in ("event", "at")} for event in events(file) if event["event"] == kind
    ]


@pytest.mark.long
def test_a_training_tells_all_that_it_keeps_and_is_the_same_as_without(bench):
    journal = bench.root / "journal"
    plain = bench.made("plain", *COMMON, "--sample-every", 6)
    made = bench.made("made", *COMMON, "--sample-every", 6, f"--journal={journal}")
    facts = run_json(made)
    assert all(told(journal, kind) == facts[kind] for kind in ("history", "evaluations", "samples"))
    assert same_weights(plain, made)
    assert facts["command"] == run_json(plain)["command"].replace("plain", "made")
    names = [event["event"] for event in events(journal)]
    assert (names[0], names[-1]) == ("began", "done")
    assert [event["name"] for event in told(journal, "stage")] == ["reading", "training", "writing"]
    journal.unlink()


def test_neither_samples_nor_looks_count_for_the_pace(bench):
    made = bench.made("made", *COMMON, "--sample-every", 2, "--evaluate-every", 3, "--log-every", 1)
    speeds = sorted(entry["tokens_per_second"] for entry in run_json(made)["history"][2:])
    assert speeds[-1] < 30 * speeds[len(speeds) // 2]


def test_a_refusal_is_told_as_on_the_terminal(bench, tmp_path, capsys):
    journal = tmp_path / "journal"
    assert bench.train("made", "--steps", "-1", f"--journal={journal}") == 1
    sentence = told(journal, "refused")[0]["sentence"]
    assert capsys.readouterr().err == f"finetune: {sentence}\n"
    assert convert.__main__.main([str(tmp_path / "none"), str(tmp_path / "x"), f"--journal={journal}"]) == 1
    sentence = told(journal, "refused")[1]["sentence"]
    assert capsys.readouterr().err == f"convert: {sentence}\n"


def test_a_look_tells_what_a_training_would_find(bench, capsys):
    journal = bench.root / "journal"
    given = ["look", str(bench.text), "--model", str(bench.model), "--documents", "line", f"--journal={journal}"]
    assert finetune.__main__.main([*given, "--cache", str(bench.root / "cache")]) == 0
    (found,) = told(journal, "found")
    lines = bench.text.read_text().splitlines()
    assert found["documents"] == {"train": 54, "validation": 6}
    assert found["ends"]["first"].split("\n")[0] == lines[0]
    assert found["ends"]["last"].split("\n")[-1] == lines[-1]
    assert found["ends"]["held_out"].split("\n")[0] in lines
    assert "train 54 documents" in capsys.readouterr().out
    facts = run_json(bench.made("made", *COMMON))
    assert {name: facts[name] for name in ("documents", "tokens", "data")} == {
        name: found[name] for name in ("documents", "tokens", "data")
    }


def test_a_full_disk_loses_lines_and_hurts_none_of_the_others(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal")
    journal.tell("began")
    real = os.write
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda file, body: real(file, body[:9]))
        journal.tell("lost")
    Journal(Path("/dev/full")).tell("lost")
    journal.tell("done", loss=float("nan"), step=3)
    lines = (tmp_path / "journal").read_text().splitlines()
    assert lines[1] == '{"event":'
    assert {k: v for k, v in json.loads(lines[2]).items() if k != "at"} == {"event": "done", "step": 3}


@pytest.mark.long
def test_a_training_whose_starter_is_gone_saves_and_goes_on_to_the_same_end(bench):
    steps = [*COMMON[:6], "--steps", 400, *COMMON[8:]]
    whole = bench.made("whole", *steps)
    journal = bench.root / "journal"
    command = [sys.executable, "-m", "finetune", *bench.arguments("parted", *steps), f"--journal={journal}", "--tied"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, env=environment) as process:
        until(lambda: journal.exists() and told(journal, "step"), 120, "its first steps")
        process.stdin.close()
        assert process.wait(60) == 130
    assert 0 < told(journal, "stopped")[0]["step"] < 400
    assert same_weights(whole, bench.made("parted", *steps, "--resume"))
    journal.unlink()


@pytest.mark.whole
def test_a_conversion_whose_starter_is_gone_leaves_nothing(tmp_path):
    source = ROOT / "tests/fixtures/tensorflow/openai"
    command = [sys.executable, "-m", "convert", str(source), str(tmp_path / "made"), "--tied"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        process.stdin.close()
        assert process.wait(60) in (0, 130, -signal.SIGINT)  # the last while it was not yet, or no more, at work
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({"made"} if process.returncode == 0 else set())
