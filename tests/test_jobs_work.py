"""Whose a half-made training is: a job goes on from its own, and removes nothing that was begun at the terminal."""

import shutil
from pathlib import Path

import pytest
from conftest import MODELS
from workshops import Workshop

from finetune.__main__ import told
from finetune.task import clear as clear_before_training
from generate import Refusal
from webapp.jobs.kinds import claim, clear, work_of
from webapp.jobs.tables import JobState

BEGUN = "A training of {} was begun at the terminal and has not ended; choose another name."


def begun(workshop, name: str):
    """What a training has left that goes on: a checkpoint."""
    folder = workshop.jobs.models / f".{name}.training"
    (folder / "checkpoint-5").mkdir(parents=True)
    return folder


def test_what_is_not_marked_as_a_job_s_own_is_left_alone(tmp_path):
    out = tmp_path / "new"
    assert claim(out, "me")
    assert claim(out, "me"), "it goes on"
    assert not claim(out, "another")
    clear(out, "another")
    assert work_of(out).exists()
    clear(out, "me")
    assert not work_of(out).exists()


def test_a_training_that_begins_leaves_whose_it_is(tmp_path):
    claim(tmp_path / "new", "me")
    (work_of(tmp_path / "new") / "run.json").touch()
    clear_before_training(work_of(tmp_path / "new"))
    assert [path.name for path in work_of(tmp_path / "new").iterdir()] == ["job"]


def killed_in_removing(path, **_):
    """What `rmtree` has done when its process is killed: it begins with whatever the system lists first."""
    if (whose := Path(path) / "job").exists():
        whose.unlink()
        raise KeyboardInterrupt


def test_what_a_removal_leaves_whose_process_is_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    out = tmp_path / "new"
    claim(out, "me")
    (work_of(out) / "checkpoint-5").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_in_removing)
        with pytest.raises(KeyboardInterrupt):
            clear(out, "me")
    assert not work_of(out).exists()
    clear(out, "me")
    assert not list(tmp_path.iterdir())


@pytest.mark.whole
def test_a_job_does_not_go_on_from_a_training_of_the_terminal_and_does_not_remove_it(workshop):
    job = workshop.submit("2", look=True)
    workshop.until(job, JobState.DRAFT)
    folder = begun(workshop, "new")
    workshop.ask("begin", job)
    failed = workshop.until(job, JobState.FAILED)
    assert failed.sentence == BEGUN.format("new")
    assert failed.progress["problem"] == {"message": BEGUN.format("{name}"), "values": {"name": "new"}}, "to be retold"
    workshop.ask("throw_away", job)
    workshop.until(job, None)
    assert (folder / "checkpoint-5").exists()


@pytest.mark.whole
def test_another_name_is_free_of_trainings_and_takes_the_old_one_s_checkpoints_away(workshop):
    job = workshop.submit("refuse")
    workshop.until(job, JobState.FAILED)
    (workshop.jobs.models / ".new.training" / "checkpoint-5").mkdir()
    terminal = begun(workshop, "taken")
    with pytest.raises(Refusal, match="A training of taken was begun at the terminal"):
        workshop.ask("look", job, makes="taken")
    workshop.ask("look", job, makes="other")
    assert list(workshop.jobs.models.iterdir()) == [terminal]


@pytest.mark.whole
def test_a_training_that_was_killed_when_its_model_was_placed_leaves_no_checkpoints(workshop, shop_settings, writer):
    job = workshop.submit("9999")
    workshop.until_counting(job)
    (workshop.jobs.models / ".new.training" / "checkpoint-5").mkdir()
    workshop.die()
    (workshop.jobs.models / "new").mkdir()
    second = Workshop(shop_settings, writer.engine)
    second.until(job, JobState.DONE)
    assert [path.name for path in second.jobs.models.iterdir()] == ["new"]
    second.die()


@pytest.mark.whole
def test_what_is_made_of_a_text_is_kept_with_the_job_and_goes_with_it(workshop, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = ("text.txt", "--model", str(MODELS / "storyteller"))
    job = workshop.submit(*given, kind="finetune", look=True, fill=lambda folder: write(folder / "text.txt"))
    assert workshop.until(job, JobState.DRAFT).sentence == ""
    assert list((workshop.folder(job) / "encodings").iterdir())
    assert not (tmp_path / "cache" / "rubric" / "encodings").exists()
    workshop.ask("throw_away", job)
    workshop.until(job, None)
    assert not workshop.folder(job).exists()


def test_where_a_server_kept_encoded_text_is_not_in_the_command_that_a_model_has():
    assert told(["a.txt", "--cache=encodings", "--out", "/x/new"]) == "python -m finetune a.txt --out new"


def write(file) -> None:
    file.write_text("Once upon a time there was a fox.\n\n" * 40)
