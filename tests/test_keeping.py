"""The operator's list of models: each can be described, renamed, hidden, taken away and removed, and nobody else sees a hidden one."""

import io
import json
import re
import secrets
import shutil
import time
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Visitor, make_model
from operating import operator_cookie

from convert.bundle import open_bundle
from generate import Refusal, check_folder
from webapp.jobs.naming import rename_model
from webapp.jobs.tables import Job, JobState
from webapp.runs.choices import Choices
from webapp.runs.tables import db
from webapp.views.readme import LARGEST, rendered

UNKNOWN = "There is no model called 'spare' here; the models are: "


@pytest.fixture
def operator(app) -> Visitor:
    visitor = Visitor(app)
    visitor.client.set_cookie(*operator_cookie(Path(app.instance_path)))
    return visitor


@pytest.fixture
def spare(app, models, model):
    """A model that a test may do anything to; afterwards everything is as it was."""
    choices = app.extensions["rubric"].choices
    yield shutil.copytree(model, models / "spare")
    for name in ("spare", "new"):
        shutil.rmtree(models / name, ignore_errors=True)
        choices.rename(name, None)


def do(operator, what, name="spare", **fields):
    return operator.post(f"/workshop/models/{name}/{what}", data=fields)


def listed(operator) -> str:
    return operator.get("/workshop/models").text


def test_the_list_tells_what_each_model_is_and_when_it_was_used(operator, visitor, spare):
    assert "never used" in listed(operator)
    visitor.finish(visitor.start(model="spare", max_new_tokens=1))
    page = listed(operator)
    for word in ("spare", "storyteller", "7.0 million parameters", "offered first", "last used"):
        assert word in page


def test_a_description_is_kept_in_the_folder_and_told_to_visitors(operator, visitor, spare):
    assert do(operator, "describe", can="It is  short.\n", cannot="<b>All else</b>").status_code == 303
    assert json.loads((spare / "rubric.json").read_text())["can"] == "It is short."
    page = visitor.get("/models/spare").text
    assert "It is short." in page
    assert "&lt;b&gt;All else&lt;/b&gt;" in page
    answer = do(operator, "describe", can="x" * 601)
    assert answer.status_code == 422
    assert "A description must have 600 characters at the most, not 601." in answer.text


def test_a_renamed_model_takes_its_runs_and_sheets_with_it(operator, visitor, models, spare):
    run = visitor.start(model="spare", max_new_tokens=2)
    text = visitor.finish(run)["samples"][0]["text"]
    sheet = visitor.post("/sheets", json={"key": "r" * 22, "options": {"model": "spare"}}).get_json()
    assert do(operator, "rename", makes="new").status_code == 303
    assert (models / "new").is_dir()
    assert not spare.exists()
    assert visitor.json(run)["model"] == "new"
    assert visitor.json(run)["samples"][0]["text"] == text
    assert visitor.get(f"/s/{sheet['id']}/state").get_json()["options"]["model"] == "new"
    assert visitor.post(f"{run}/continue", data={"sample": "0"}).status_code == 303


def made_job(app, model: Path, state: JobState, makes: str = "taught") -> Job:
    jobs = app.extensions["rubric"].jobs
    return Job(
        id=secrets.token_urlsafe(12),
        kind="finetune",
        title="spare learns tale.txt",
        arguments=["texts/tale.txt", "--model=spare", "--vocab", str(model)],
        makes=makes,
        machine=jobs.machine,
        state=state,
        about={"model": "spare", "fields": {"model": "spare", "lr": "0.1"}},
    )


def test_jobs_know_a_model_by_its_new_name(app, operator, models, spare):
    with app.app_context():
        made, failed = made_job(app, spare, JobState.DONE, "spare"), made_job(app, spare, JobState.FAILED)
        db.session.add_all([made, failed])
        db.session.commit()
        ids = made.id, failed.id
    assert do(operator, "rename", makes="new").status_code == 303
    with app.app_context():
        made, failed = (db.session.get(Job, one) for one in ids)
        assert (made.makes, failed.makes) == ("new", "taught")
        assert failed.about == {"model": "new", "fields": {"model": "new", "lr": "0.1"}}
        assert failed.arguments == ["texts/tale.txt", "--model=new", "--vocab", str(models / "new")]
        for job in (made, failed):
            db.session.delete(job)
        db.session.commit()


def test_a_model_that_a_job_is_at_work_with_is_not_renamed(app, spare):
    here = app.extensions["rubric"]
    with app.app_context():
        db.session.add(made_job(app, spare, JobState.RUNNING))  # taken back with all else
        with pytest.raises(Refusal, match=r"^A job of the workshop needs spare: 'spare learns tale.txt'\. Let it end"):
            here.keeping.rename("spare", "new", partial(rename_model, here.jobs))
    assert spare.is_dir()


def test_a_model_that_a_job_can_go_on_with_is_not_removed(app, operator, spare):
    with app.app_context():
        job = made_job(app, spare, JobState.STOPPED)
        db.session.add(job)
        db.session.commit()
        job_id = job.id
    answer = do(operator, "delete")
    assert answer.status_code == 422
    assert "needs spare: &#39;spare learns tale.txt&#39;" in answer.text
    with app.app_context():
        db.session.delete(db.session.get(Job, job_id))
        db.session.commit()
    assert do(operator, "delete").status_code == 303


@pytest.mark.parametrize("new", ["", ".hidden", "a/b", "..", "storyteller", "a b", "x" * 81])
def test_a_name_that_cannot_be_is_refused_and_nothing_is_moved(operator, spare, new):
    assert do(operator, "rename", makes=new).status_code == 422
    assert spare.is_dir()


def test_a_removed_model_leaves_the_runs_their_text(operator, visitor, models, spare):
    run = visitor.start(model="spare", max_new_tokens=2)
    text = visitor.finish(run)["samples"][0]["text"]
    assert do(operator, "delete").status_code == 303
    assert not [path for path in models.iterdir() if "spare" in path.name]
    assert visitor.json(run)["samples"][0]["text"] == text
    assert visitor.get(run).status_code == 200
    assert UNKNOWN in visitor.post("/runs", data={"prompt": "a", "model": "spare"}).text.replace("&#39;", "'")
    assert do(operator, "delete").status_code == 422


def test_a_model_that_is_a_link_elsewhere_is_removed_as_a_link(operator, models, model, tmp_path):
    real = shutil.copytree(model, tmp_path / "real")
    (models / "spare").symlink_to(real)
    assert do(operator, "delete").status_code == 303
    assert real.is_dir()
    assert not (models / "spare").exists()


def test_a_broken_model_is_listed_with_its_sentence_and_can_be_removed(operator, spare):
    (spare / "model.safetensors").write_bytes(b"")
    assert "spare" in listed(operator)
    assert do(operator, "describe", can="x").status_code == 422
    assert do(operator, "delete").status_code == 303
    assert not spare.exists()


def test_the_default_is_offered_first_and_can_be_neither_hidden_nor_removed(operator, visitor, spare):
    assert do(operator, "default").status_code == 303
    assert re.search('<option value="spare"[^>]* selected', visitor.get("/").text)
    for what in ("hide", "delete"):
        answer = do(operator, what)
        assert answer.status_code == 422
        assert "spare is the model that the page offers first" in answer.text
    do(operator, "hide", "other")
    assert "hidden from visitors; show it" in do(operator, "default", "other").text
    do(operator, "show", "other")


@pytest.fixture
def hidden(operator, spare):
    assert do(operator, "hide").status_code == 303
    return spare


def said(answer) -> str:
    return answer.text.replace("&#39;", "'").replace("&quot;", '"')


def test_a_hidden_model_is_for_visitors_as_one_that_was_never_there(operator, visitor, hidden):
    operator.finish(operator.start(model="spare", max_new_tokens=1))  # so that the engine has it
    for path in ("/models/spare", "/models/spare/samples", "/models/spare/certificate"):
        assert visitor.get(path).status_code == 404
    assert visitor.post("/models/spare/samples").status_code == 404
    for path in ("/", "/v1/models", "/v1", "/runs", "/readyz"):
        assert "spare" not in visitor.get(path).text
    sheet = visitor.post("/sheets", json={"key": "h" * 22}).get_json()["id"]
    asked = {"key": "g" * 22, "options": {"model": "spare"}, "rev": 0, "at": 0, "text": "a", "seen": 0}
    answers = [
        visitor.post("/runs", data={"prompt": "a", "model": "spare"}),
        visitor.post("/v1/completions", json={"prompt": "a", "model": "spare"}),
        visitor.post(f"/s/{sheet}/write", json=asked),
        visitor.post(f"/s/{sheet}/suggest", json=asked),
    ]
    absent = [
        visitor.post("/runs", data={"prompt": "a", "model": "never"}),
        visitor.post("/v1/completions", json={"prompt": "a", "model": "never"}),
        visitor.post(f"/s/{sheet}/write", json=asked | {"options": {"model": "never"}}),
        visitor.post(f"/s/{sheet}/suggest", json=asked | {"options": {"model": "never"}}),
    ]
    for answer, other in zip(answers, absent, strict=True):
        assert answer.status_code == other.status_code >= 400
        assert "'never'" in said(other)
        spoken = said(answer).replace("spare", "never")
        assert [line for line in spoken.splitlines() if "no model called" in line] == [
            line for line in said(other).splitlines() if "no model called" in line
        ]


def test_the_operator_writes_with_a_hidden_model_and_visitors_read_what_it_wrote(operator, visitor, hidden):
    run = operator.start(model="spare", max_new_tokens=2)
    assert operator.finish(run)["model"] == "spare"
    assert operator.get("/models/spare").status_code == 200
    assert "spare (hidden from visitors)" in operator.get("/").text
    assert visitor.get(run).status_code == 200
    for what in ("continue", "retry"):
        answer = visitor.post(f"{run}/{what}", data={"sample": "0"})
        assert answer.status_code == 422
        assert UNKNOWN in said(answer)
    do(operator, "show")
    assert visitor.get("/models/spare").status_code == 200


def test_a_model_comes_away_as_a_zip_that_transformers_and_this_page_load(operator, spare, tmp_path):
    answer = operator.get("/workshop/models/spare/transformers.zip")
    assert answer.headers["Content-Disposition"] == "attachment; filename=spare.zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as packed:
        assert packed.testzip() is None
        packed.extractall(tmp_path)
    assert check_folder(tmp_path / "spare").fingerprint() == check_folder(spare).fingerprint()
    assert sorted(p.name for p in (tmp_path / "spare").iterdir()) == sorted(p.name for p in spare.iterdir())


@pytest.mark.whole
def test_a_model_comes_away_as_a_checkpoint_of_tensorflow_s_and_leaves_nothing_here(app, operator, spare, tmp_path):
    answer = operator.get("/workshop/models/spare/tensorflow.zip")
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.data)) as packed:
        packed.extractall(tmp_path)
    assert "model/wte" in open_bundle(tmp_path / "spare" / "model.ckpt").variables
    assert list(app.extensions["rubric"].uploads.folder.iterdir()) == []


@pytest.mark.whole
def test_what_no_checkpoint_of_tensorflow_s_can_hold_is_refused_as_on_the_terminal(app, operator, models, tmp_path):
    make_model(models / "spare", activation_function="relu")
    answer = operator.get("/workshop/models/spare/tensorflow.zip")
    shutil.rmtree(models / "spare")
    assert answer.status_code == 422
    assert "relu" in answer.text
    assert list(app.extensions["rubric"].uploads.folder.iterdir()) == []


@pytest.mark.parametrize("ended", [None, 1, 130])
def test_a_checkpoint_is_made_by_a_process_as_jobs_are_which_is_stopped_when_it_takes_too_long(
    app, operator, spare, monkeypatch, ended
):
    begun, stopped = [], []

    class Slow:
        def __init__(self, folder, program, arguments, journal, models, nice):
            begun.append((program, arguments[0]))
            (folder / "output.txt").write_text("convert: It will not do.\n")

        def wait(self, seconds):
            return ended

        def stop(self):
            stopped.append(True)

    monkeypatch.setattr("webapp.jobs.export.Child", Slow)
    answer = operator.get("/workshop/models/spare/tensorflow.zip")
    assert answer.status_code == 422
    assert ("took too long" if ended is None else "It will not do.") in answer.text
    assert (begun, stopped) == ([("convert", "--to-tf")], [True])
    assert list(app.extensions["rubric"].uploads.folder.iterdir()) == []


def test_a_checkpoint_is_made_one_at_a_time_where_there_is_room_and_not_for_a_look_at_its_head(
    app, operator, spare, monkeypatch
):
    def no_process(*given):
        raise AssertionError("a process was begun")

    monkeypatch.setattr("webapp.jobs.export.Child", no_process)
    path = "/workshop/models/spare/tensorflow.zip"
    assert operator.client.head(path).status_code == 200
    answers = []

    class Asking:
        def __init__(self, *given):
            answers.append(operator.get(path))

        def wait(self, seconds):
            return 1

        def stop(self):
            answers.append(None)

    monkeypatch.setattr("webapp.jobs.export.Child", Asking)
    assert operator.get(path).status_code == 422
    assert (answers[0].status_code, answers[0].headers["Retry-After"], answers[1:]) == (503, "20", [None])
    monkeypatch.setattr("webapp.jobs.export.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    answer = operator.get(path)
    assert answer.status_code == 422
    assert "disk has 1,000 left" in answer.text


def test_what_the_disk_does_not_let_happen_is_one_sentence(app, spare, monkeypatch):
    def fails(self, target):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", fails)
    with (
        app.app_context(),
        pytest.raises(Refusal, match=r"^The folder of spare cannot be changed: Read-only file system\.$"),
    ):
        app.extensions["rubric"].keeping.remove("spare")


@pytest.mark.parametrize("step", ["move", "commit", "choices"])
def test_no_visitor_sees_a_hidden_model_whose_renaming_was_cut(app, hidden, models, monkeypatch, step):
    """Killed in the middle: none of its names is another's to see. Refused by the disk: all is as it was."""
    keeping, choices = app.extensions["rubric"].keeping, app.extensions["rubric"].choices
    shown = []

    def fails(*given):
        names = {path.name for path in models.iterdir()} & {"spare", "new"}
        shown.extend(names - choices.hidden)
        raise OSError(28, "No space left on device")

    if step == "move":
        monkeypatch.setattr(Path, "rename", fails)
    elif step == "commit":
        monkeypatch.setattr(db.session, "commit", fails)
    else:
        monkeypatch.setattr(choices, "rename", fails)
    with app.app_context(), pytest.raises((Refusal, OSError)):
        keeping.rename("spare", "new", lambda old, new: None)
    monkeypatch.undo()
    assert shown == []
    if step == "choices":
        assert choices.hidden >= {"new"}
    else:
        assert hidden.is_dir()
        assert choices.hidden == {"spare"}


def test_a_full_disk_is_no_reason_to_keep_a_model(app, spare, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("webapp.runs.choices.write_json", full)
    with app.app_context():
        app.extensions["rubric"].keeping.remove("spare")
    assert not spare.exists()


def test_what_a_killed_server_had_half_removed_is_gone_when_one_starts(app, models):
    (models / ".spare-removed").mkdir()
    (models / ".spare-removed" / "model.safetensors").write_bytes(b"x")
    (models / ".link-removed").symlink_to(models / "tiny")
    app.extensions["rubric"].keeping.sweep()
    assert not [path for path in models.iterdir() if path.name.endswith("-removed")]
    assert (models / "tiny").is_dir()


def test_choices_that_cannot_be_read_hide_everything_rather_than_nothing(tmp_path):
    choices = Choices(tmp_path)
    choices.hide("spare", True)
    choices.choose("other")
    assert (Choices(tmp_path).hidden, Choices(tmp_path).default) == ({"spare"}, "other")
    (tmp_path / "models.json").write_text("{")
    with pytest.raises(Refusal, match=r"^models.json cannot be read; mend or remove it\.$"):
        assert Choices(tmp_path).hidden


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("a <script>alert(1)</script>", "<p>a &lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("[a](/operator)", '<p><a rel="nofollow noopener noreferrer">a</a></p>'),
        ("[a](//evil.example)", '<p><a rel="nofollow noopener noreferrer">a</a></p>'),
        ("[a](https://b.c)", '<p><a href="https://b.c" rel="nofollow noopener noreferrer">a</a></p>'),
        ("![a](https://b.c/d.png)", "<p></p>"),
        ("# One\n\n## Two", "<h2>One</h2>\n<h3>Two</h3>"),
        ("---\nlicense: mit\n---\ntext", "<p>text</p>"),
        ("---\r\nlicense: mit\r\n--- \r\ntext", "<p>text</p>"),
        ("---\nnothing ends it", "<hr>\n<p>nothing ends it</p>"),
        ('<img src=x onerror="alert(1)">', '<p>&lt;img src=x onerror="alert(1)"&gt;</p>'),
    ],
)
def test_a_readme_is_shown_and_can_do_nothing(markdown, html):
    assert rendered(markdown).strip() == html


def test_no_readme_keeps_the_server_from_its_visitors():
    """A pattern over a front that never ends took ninety seconds for this one."""
    began = time.process_time()
    assert rendered("---" + "\n" * LARGEST).strip() == "<hr>"
    assert time.process_time() - began < 5


def test_a_model_s_page_holds_its_readme(visitor, models, spare):
    (spare / "README.md").write_text("# Of *foxes*\n\n<script>alert(1)</script>")
    page = visitor.get("/models/spare").text
    assert "<h2>Of <em>foxes</em></h2>" in page
    assert "<script>alert" not in page
