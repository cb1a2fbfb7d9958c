"""What is given to a job is lost at no moment, what is asked of it is always answered, and what is nobody's goes."""

import os
import secrets
import time

import pytest
from sqlalchemy.exc import OperationalError
from workshops import Workshop, enter

from webapp.jobs.tables import JobState, Wish
from webapp.runs.tables import db
from webapp.uploads.store import Uploads


def uploaded(uploads: Uploads, name: str, body: bytes) -> str:
    upload = uploads.create(name, len(body))
    uploads.append(upload, 0, iter([body]))
    return upload.id


def test_a_job_that_cannot_be_stored_leaves_what_was_uploaded_where_it_was(workshop, monkeypatch):
    state = workshop.server.state
    one = uploaded(state.uploads, "run.zip", b"bytes")

    def broken():
        raise OperationalError("COMMIT", {}, OSError("disk full"))

    with workshop.server.app.app_context():
        with monkeypatch.context() as away:
            away.setattr(db.session, "commit", broken)
            with pytest.raises(OperationalError):
                state.bringing.from_uploads([one], "new")
        db.session.rollback()
        assert state.uploads.find(one).data.read_bytes() == b"bytes"
        job = state.bringing.from_uploads([one], "new")
        assert (workshop.jobs.folder(job) / "source" / "run.zip").read_bytes() == b"bytes"
    assert state.uploads.all() == []


def test_an_upload_goes_to_another_disk_all_the_same(tmp_path, monkeypatch):
    uploads = Uploads(tmp_path / "uploads")
    one = uploaded(uploads, "run.zip", b"bytes")

    def refuse(*given):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (moved,) = uploads.move([one], tmp_path / "there")
    assert moved.read_bytes() == b"bytes"
    assert list(uploads.folder.iterdir()) == []


@pytest.mark.parametrize("others", [0, 1])
def test_a_folder_without_a_job_goes_after_an_hour_when_a_server_begins(workshop, others):
    for name in range(others):
        workshop.submit("1", makes=f"m{name}")
    workshop.jobs.root.mkdir(parents=True, exist_ok=True)
    old, young = (workshop.jobs.root / secrets.token_urlsafe(12) for _ in range(2))
    for folder in (old, young):
        (folder / "source").mkdir(parents=True)
    os.utime(old, (time.time() - 4000,) * 2)
    workshop.tend()
    assert young.exists()
    assert old.exists() is (others == 0), "a database without any job may be the wrong one"
    with workshop.server.app.app_context():
        assert all(workshop.jobs.folder(job).exists() for job in workshop.jobs.all())


def test_a_job_that_waits_and_was_told_to_stop_is_stopped(workshop):
    job = workshop.submit("1")
    with workshop.server.app.app_context():  # its process ended between the two
        workshop.jobs.move(workshop.jobs.find(job), (JobState.WAITING,), wish=Wish.STOP)
    workshop.tend()
    assert (workshop.job(job).state, workshop.job(job).wish) == (JobState.STOPPED, None)


def test_a_job_of_a_machine_that_is_gone_can_be_taken_off_the_list(workshop, shop_settings, writer, tmp_path):
    elsewhere = Workshop(shop_settings | {"RUBRIC_INSTANCE": str(tmp_path / "elsewhere")}, writer.engine)
    job = elsewhere.submit("1")
    elsewhere.die()
    operator = enter(workshop.server.app)
    throw = f"/workshop/jobs/{job}/throw-away"
    operator.post(throw)
    workshop.tend()
    page = operator.get(f"/workshop/jobs/{job}").text
    assert f"It is thrown away as soon as its server, {elsewhere.jobs.machine}, sees to it." in page
    assert "Take off the list at once" in page
    operator.post(throw)
    assert workshop.job(job) is None
