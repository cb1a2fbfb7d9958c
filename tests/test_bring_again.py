"""A conversion that failed for want of room keeps what was uploaded, and can be tried again; one of a broken file does not."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from workshops import enter

from convert.__main__ import main as convert
from webapp.jobs.bringing import can_try_again, is_refused
from webapp.jobs.progress import Progress
from webapp.jobs.tables import JobState

CHECKPOINT = Path(__file__).parent / "fixtures/tensorflow/openai"


def told(source: Path, folder: Path) -> dict:
    """What a conversion that is refused tells as the last."""
    journal = folder / "journal"
    assert convert([str(source), str(folder / "models" / "new"), "--no-check", f"--journal={journal}"]) == 1
    return json.loads(journal.read_text().splitlines()[-1])


@pytest.fixture
def packed(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return Path(shutil.make_archive(tmp_path / "run", "zip", CHECKPOINT))


def test_a_disk_that_is_full_when_an_archive_is_unpacked_is_not_the_archive_s_fault(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    refusal = told(packed, tmp_path)
    assert refusal["sentence"] == "run.zip could not be unpacked (No space left on device); make room, and try again."
    assert refusal["again"] is True


def test_a_disk_that_is_full_when_the_model_is_written_is_not_its_fault_either(packed, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("convert.folder.write_weights", full)
    refusal = told(packed, tmp_path)
    assert "cannot be written: No space left on device" in refusal["sentence"]
    assert refusal["again"] is True


def test_a_broken_archive_is_not_tried_again(packed, tmp_path):
    packed.write_bytes(packed.read_bytes()[:9000])
    assert told(packed, tmp_path)["again"] is False


@pytest.mark.parametrize("again", [True, False])
def test_what_was_uploaded_stays_where_it_can_be_tried_again(workshop, again):
    with workshop.server.app.app_context():
        jobs = workshop.jobs
        job = jobs.submit("convert", ["source/run.zip"], "Bring it", "new", lambda folder: (folder / "source").mkdir())
        progress = Progress()
        progress.take({"event": "refused", "sentence": "It will not do.", "again": again})
        jobs.move(job, tuple(JobState), state=JobState.FAILED, sentence="It.", progress=progress.as_json())
        workshop.server.state.bringing.sweep()
        assert (jobs.folder(job) / "source").exists() is again
        assert can_try_again(job) is again
        assert is_refused(job) is not again
    page = enter(workshop.server.app).get(f"/workshop/jobs/{job.id}").text
    assert ("Try again" in page) is again
    assert ("What was uploaded for it is removed." in page) is not again
