"""What a job's process tells is stored whatever text it is, and a job of which nothing can be stored ends with a sentence."""

import io
import tarfile

import pytest

from convert.__main__ import main as convert
from webapp.jobs.progress import Progress
from webapp.jobs.runner import UNTOLD
from webapp.jobs.tables import JobState

HALF, NUL = "\udcff", "\0"


def packed(file, name: str):
    """An archive of two checkpoints, the folder of one of which has this name."""
    with tarfile.open(file, "w") as archive:
        for folder in (name, "b"):
            info = tarfile.TarInfo(f"{folder}/model.ckpt.index")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return file


def test_what_a_process_tells_is_text_for_every_database():
    told = Progress()
    told.take({"event": "refused", "sentence": f"a{HALF}b{NUL}c"})
    told.take({"event": "found", f"n{HALF}": [f"x{NUL}", {"deep": HALF}, 1.5, None]})
    assert told.sentence == "a?b?c"
    assert told.found == {"n?": ["x?", {"deep": "?"}, 1.5, None]}


def test_a_name_in_an_archive_that_cannot_be_shown_is_spelled(tmp_path, capsys):
    assert convert([str(packed(tmp_path / "run.tar", f"a{HALF}\n")), str(tmp_path / "new")]) == 1
    sentence = capsys.readouterr().err.removeprefix("convert: ")
    assert sentence == "run.tar holds several checkpoints (a\\udcff\\n, b); unpack it and name one.\n"


@pytest.mark.whole
def test_an_archive_with_a_name_that_is_no_text_is_refused_once_and_the_line_goes_on(workshop, tmp_path):
    source = packed(tmp_path / "run.tar", f"a{HALF}")
    job, after = workshop.submit(str(source), makes="old", kind="convert"), workshop.submit("1")
    assert "holds several checkpoints (a\\udcff, b)" in workshop.until(job, JobState.FAILED).sentence
    workshop.until(after, JobState.DONE)


@pytest.mark.whole
def test_words_that_no_database_takes_are_a_sentence_all_the_same(workshop):
    job, after = workshop.submit("half"), workshop.submit("1", makes="other")
    assert workshop.until(job, JobState.FAILED).sentence == "It will not do: a?b?"
    workshop.until(after, JobState.DONE)


@pytest.mark.whole
def test_a_job_whose_words_cannot_be_stored_fails_and_the_line_goes_on(workshop, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(Progress, "as_json", lambda self: {"says": object()} if self.ended else {})
        job = workshop.submit("refuse")
        assert workshop.until(job, JobState.FAILED).sentence == UNTOLD
    after = workshop.submit("1", makes="other")
    workshop.until(after, JobState.DONE)
