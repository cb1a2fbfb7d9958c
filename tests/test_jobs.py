"""Jobs: one at a time, each in a process that ends when its server does, taken up again by the next."""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from waiting import until
from workshops import Workshop, pid_of

from generate import Refusal
from webapp.jobs.child import is_held
from webapp.jobs.kinds import finetuning
from webapp.jobs.progress import Tail
from webapp.jobs.tables import JobState

pytestmark = pytest.mark.whole
CHECKPOINT = ROOT / "tests/fixtures/tensorflow/openai"


def test_a_job_is_done_in_a_process_of_its_own_and_tells_how_far_it_is(workshop):
    job = workshop.submit("3")
    assert workshop.job(job).state == JobState.WAITING
    found = workshop.until(job, JobState.DONE)
    assert (workshop.jobs.models / "new" / "model").read_text() == "3"
    assert found.started
    assert found.ended
    assert (workshop.progress(job).total, workshop.progress(job).ended) == (3, "done")


def test_jobs_are_done_one_at_a_time_and_the_others_wait_in_line(workshop):
    first, second, third = (workshop.submit("9999", makes=f"m{n}") for n in range(3))
    workshop.until_counting(first)
    with workshop.server.app.app_context():
        assert [workshop.jobs.place(workshop.jobs.find(one)) for one in (second, third)] == [1, 2]
        assert [job.id for job in workshop.jobs.all()] == [first, second, third]
    workshop.ask("stop", second)
    assert workshop.job(second).state == JobState.STOPPED
    workshop.ask("stop", first)
    workshop.until(third, JobState.RUNNING)
    assert workshop.job(first).state == JobState.STOPPED


def test_a_job_that_is_stopped_saves_and_goes_on_from_there(workshop):
    job = workshop.submit("150")
    workshop.until_counting(job)
    workshop.ask("stop", job)
    workshop.until(job, JobState.STOPPED)
    assert (saved := int((workshop.folder(job) / "saved").read_text())) < 150
    assert not (workshop.jobs.models / "new").exists()
    workshop.ask("begin", job)
    workshop.until(job, JobState.DONE)
    assert f'"step": {saved}, "steps": 150' in (workshop.folder(job) / "journal.jsonl").read_text()


def test_a_refusal_is_the_terminal_s_sentence_and_the_job_can_be_tried_with_other_arguments(workshop):
    job = workshop.submit("refuse")
    assert workshop.until(job, JobState.FAILED).sentence == "It will not do."
    workshop.ask("begin", job, ["2"])
    assert workshop.until(job, JobState.DONE).sentence == ""


@pytest.mark.parametrize(
    ("how", "said"), [("die", "killed (signal 9)"), ("crash", "ZeroDivisionError: by nothing"), ("7x", "ValueError")]
)
def test_a_process_that_fails_is_told_of_in_a_sentence(workshop, how, said):
    assert said in workshop.until(workshop.submit(how), JobState.FAILED).sentence


def test_a_process_that_says_nothing_is_told_of_all_the_same_and_so_is_a_full_disk(workshop, monkeypatch):
    job = workshop.submit("silent")
    assert "ended with status 3 and without a word" in workshop.until(job, JobState.FAILED).sentence
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    workshop.ask("begin", job)
    assert workshop.until(job, JobState.FAILED).sentence == "The server's disk is full; make room, and go on."


def test_a_job_that_is_thrown_away_leaves_nothing(workshop):
    job = workshop.submit("9999")
    workshop.until_counting(job)
    (workshop.jobs.models / ".new.training" / "checkpoint-5").mkdir()
    workshop.ask("throw_away", job)
    assert workshop.until(job, None) is None
    assert not workshop.folder(job).exists()
    assert list(workshop.jobs.models.iterdir()) == []


def test_a_model_stays_when_the_job_that_made_it_is_removed(workshop):
    job = workshop.submit("1")
    workshop.until(job, JobState.DONE)
    workshop.ask("throw_away", job)
    workshop.until(job, None)
    assert (workshop.jobs.models / "new").is_dir()


def test_what_is_given_is_looked_at_beside_a_job_and_begun_when_asked(workshop):
    workshop.until_counting(workshop.submit("9999"))
    job = workshop.submit("2", makes="other", look=True)
    workshop.until(job, JobState.DRAFT)
    assert workshop.progress(job).found == {"words": "2"}
    workshop.ask("begin", job)
    assert workshop.job(job).state == JobState.WAITING
    assert workshop.progress(job).found == {"words": "2"}


@pytest.mark.parametrize("after", ["kill", "close"])
def test_a_server_that_dies_leaves_no_process_and_the_next_goes_on(workshop, shop_settings, writer, after):
    job = workshop.submit("150")
    workshop.until_counting(job)
    workshop.die()
    until(lambda: not is_held(workshop.folder(job)), 30, "the end of its process")
    saved = int((workshop.folder(job) / "saved").read_text())
    assert saved < 150
    assert workshop.job(job).state == JobState.RUNNING
    if after == "kill":  # in the moment after the model was placed
        (workshop.jobs.models / "new").mkdir()
    second = Workshop(shop_settings, writer.engine)
    second.until(job, JobState.DONE)
    assert (workshop.jobs.models / "new" / "model").exists() == (after == "close")
    second.die()


def test_a_job_whose_process_others_told_to_end_goes_on_by_itself(workshop):
    job = workshop.submit("9999")
    workshop.until_counting(job)
    os.kill(pid := pid_of(workshop.folder(job)), signal.SIGTERM)
    until(lambda: workshop.tend() or pid_of(workshop.folder(job)) not in (pid, None), 60, "another process")
    assert workshop.job(job).state == JobState.RUNNING


def test_the_next_server_waits_for_a_process_that_is_still_saving(workshop, shop_settings, writer):
    job = workshop.submit("9999")
    workshop.until_counting(job)
    pid = int(until(lambda: pid_of(workshop.folder(job))))
    os.kill(pid, signal.SIGSTOP)
    workshop.die()
    second = Workshop(shop_settings, writer.engine)
    for _ in range(3):
        second.tend()
    assert second.job(job).state == JobState.RUNNING
    other = second.submit("1", makes="other")
    second.tend()
    assert second.job(other).state == JobState.WAITING
    os.kill(pid, signal.SIGCONT)
    until(lambda: second.tend() or pid_of(second.folder(job)) not in (pid, None), 60, "another process")
    second.die()
    until(lambda: not is_held(second.folder(job)), 30)


def test_a_second_server_of_the_same_machine_runs_nothing(workshop, shop_settings, writer):
    workshop.tend()
    second = Workshop(shop_settings, writer.engine)
    job = second.submit("1")
    second.tend()
    assert second.job(job).state == JobState.WAITING
    workshop.until(job, JobState.DONE)
    second.die()


def test_a_job_of_another_machine_is_left_alone(workshop, shop_settings, writer, tmp_path):
    elsewhere = Workshop(shop_settings | {"RUBRIC_INSTANCE": str(tmp_path / "elsewhere")}, writer.engine)
    job = elsewhere.submit("1")
    workshop.tend()
    assert workshop.job(job).state == JobState.WAITING
    assert workshop.job(job).machine != workshop.jobs.machine
    elsewhere.die()


def test_whoever_waits_for_a_job_is_told_when_it_is_done_and_a_failure_there_changes_nothing(workshop):
    told = []
    workshop.runner.when_done += [lambda job: 1 / 0, lambda job: told.append((job.id, job.state))]
    job = workshop.submit("1")
    workshop.until(job, JobState.DONE)
    assert told == [(job, JobState.RUNNING)]


@pytest.mark.parametrize("name", ["", ".x", "a/b", "../a", "a b", "é", "-x", "x" * 81, "a\n"])
def test_a_name_that_is_none_is_refused(workshop, name):
    with pytest.raises(Refusal, match="A model's name has 1 to 80 letters"):
        workshop.submit("1", makes=name)


def test_a_name_that_is_taken_is_refused(workshop):
    (workshop.jobs.models / "there").mkdir()
    with pytest.raises(Refusal, match="There is a model called there already"):
        workshop.submit("1", makes="there")
    (workshop.jobs.models / ".begun.training").mkdir()
    with pytest.raises(Refusal, match="A training of begun was begun at the terminal"):
        workshop.submit("1", makes="begun")
    workshop.submit("1", makes="soon")
    with pytest.raises(Refusal, match="Another job is to make soon"):
        workshop.submit("1", makes="soon")


def test_what_cannot_be_kept_leaves_nothing(workshop):
    def fill(folder):
        (folder / "text.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(Refusal, match="The server could not keep it: No space left on device"):
        workshop.submit("1", fill=fill)
    assert list(workshop.jobs.root.glob("*/text.txt")) == []


def test_a_file_that_was_brought_is_no_module_and_secrets_stay_with_the_server(workshop, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hidden")
    job = workshop.submit("9999", fill=lambda folder: (folder / "json.py").write_text("raise SystemExit(3)"))
    workshop.until_counting(job)
    environment = Path(f"/proc/{pid_of(workshop.folder(job))}/environ").read_bytes()
    assert b"hidden" not in environment
    assert b"RUBRIC_MODELS=" in environment


def test_a_checkpoint_is_converted_with_its_progress(workshop):
    source = str(CHECKPOINT)
    job = workshop.submit(source, "--no-check", makes="old", kind="convert")
    workshop.until(job, JobState.DONE)
    assert (workshop.jobs.models / "old" / "model.safetensors").exists()
    told = workshop.progress(job)
    assert (told.stage, told.unit, told.ended) == ("writing", "bytes", "done")
    wrong = workshop.submit(source + "-no", makes="none", kind="convert")
    assert "there is no" in workshop.until(wrong, JobState.FAILED).sentence.lower()


def test_a_training_goes_on_where_there_is_a_checkpoint(tmp_path):
    assert finetuning(["a.txt"], tmp_path / "new") == ["a.txt", "--out", str(tmp_path / "new")]
    (tmp_path / ".new.training" / "checkpoint-5").mkdir(parents=True)
    assert finetuning(["a.txt"], tmp_path / "new")[-1] == "--resume"


def test_lines_that_are_cut_or_no_events_are_left_out(tmp_path):
    file, tail = tmp_path / "journal", Tail(tmp_path / "journal")
    assert tail.read() == []
    file.write_bytes(b'{"event": "began"}\n[1]\n{"event": \n\xff\n{"event": "do')
    assert tail.read() == [{"event": "began"}]
    with file.open("ab") as more:
        more.write(b'ne"}\n')
    assert tail.read() == [{"event": "done"}]


def test_two_servers_begin_a_job_once(workshop):
    job, both, moved = workshop.submit("1"), threading.Barrier(6), []

    def take():
        with workshop.server.app.app_context():
            found = workshop.jobs.find(job)
            both.wait()
            moved.append(workshop.jobs.move(found, (JobState.WAITING,), state=JobState.STOPPED))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(moved) == 1
