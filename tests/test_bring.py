"""Bring a model in the page: what is dropped becomes a conversion, which asks for what is missing and ends on a certificate."""

import html
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from browser import empty_database
from conftest import MODELS, Visitor, make_model
from operating import operator_cookie
from uploading import Uploader
from waiting import until

from convert.__main__ import main as convert
from convert.to_tensorflow import to_checkpoint
from generate import check_folder, read_settings
from webapp import create_app
from webapp.jobs.bringing import name_for
from webapp.jobs.tables import JobState

pytestmark = pytest.mark.whole
CHECKPOINTS = Path(__file__).parent / "fixtures" / "tensorflow"


class Workshop:
    """A server without an engine, whose rounds the test calls, and its operator's browser."""

    def __init__(self, folder: Path):
        self.models = folder / "models"
        self.models.mkdir()
        self.instance = folder / "instance"
        settings = {"RUBRIC_INSTANCE": str(self.instance), "RUBRIC_MODELS": str(self.models), "RUBRIC_NICE": "0"}
        self.app = create_app(read_settings(settings), None)
        (self.instance / "rubric.sqlite").write_bytes(empty_database())
        self.state = self.app.extensions["rubric"]
        self.operator = Visitor(self.app)
        self.operator.client.set_cookie(*operator_cookie(self.instance))
        self.uploader = Uploader(self.operator.client)

    def upload(self, *files: Path) -> list[str]:
        return [self.uploader.whole(file.name, file.read_bytes()) for file in files]

    def bring(self, *files: Path, makes="new", **fields) -> str:
        """Drop files and press the button; returns the job's address."""
        answer = self.operator.post("/workshop/bring", data={"upload": self.upload(*files), "makes": makes} | fields)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def answer(self, job: str, what: str, **fields) -> None:
        answer = self.operator.post(f"/workshop/bring/{job.rsplit('/', 1)[1]}/{what}", data=fields)
        assert answer.status_code == 303, answer.text

    def until(self, job: str, *states):
        """Look after the jobs until it is in one of these states; returns it."""

        def reached():
            with self.app.app_context():
                self.state.runner.tend()
                found = self.state.jobs.find(job.rsplit("/", 1)[1])
                return found if found.state in states else None

        found = until(reached, 120)
        with self.app.app_context():
            self.state.bringing.sweep()
        return found

    def ends(self, job: str) -> str:
        """The sentence with which it is refused; "" when it is done."""
        return self.until(job, JobState.DONE, JobState.FAILED).sentence

    def page(self, job: str) -> str:
        return html.unescape(self.operator.get(job).text)

    def left(self) -> list[str]:
        """What lies in the folders of jobs and of uploads, but for what tells of a job."""
        told = {"journal.jsonl", "output.txt", "lock"}
        roots = (self.instance / "jobs", self.instance / "uploads")
        found = [path for root in roots for path in root.rglob("*") if path.is_file()]
        return sorted(path.name for path in found if path.name not in told)


@pytest.fixture
def workshop(tmp_path):
    made = Workshop(tmp_path)
    yield made
    made.state.runner.close()


@pytest.fixture(scope="module")
def bare_run(tmp_path_factory) -> Path:
    """As nshepperd's code leaves them, packed: weights and nothing else, of another size than OpenAI's."""
    folder = tmp_path_factory.mktemp("bare")
    make_model(folder / "tiny", vocab_size=50_257, n_embd=64, n_head=2)
    to_checkpoint(check_folder(folder / "tiny"), folder / "run1")
    for name in ("encoder.json", "vocab.bpe", "hparams.json"):
        (folder / "run1" / name).unlink()
    return Path(shutil.make_archive(folder / "checkpoint_run1", "gztar", folder, "run1"))


def test_an_archive_becomes_a_model_with_a_certificate_that_has_a_link(workshop, tmp_path):
    packed = Path(shutil.make_archive(tmp_path / "run1", "zip", CHECKPOINTS / "openai"))
    job = workshop.bring(packed, makes="")
    assert workshop.ends(job) == ""
    assert check_folder(workshop.models / "run1").certificate()["tensors"] == 28
    page = workshop.page(job)
    verdict = check_folder(workshop.models / "run1").certificate()["verdict"]
    assert verdict in page
    assert 'href="/models/run1/certificate"' in page
    stranger = Visitor(workshop.app)
    assert verdict in html.unescape(stranger.get("/models/run1/certificate").text)
    assert workshop.left() == []


@pytest.mark.long
def test_loose_files_are_one_checkpoint(workshop):
    job = workshop.bring(*sorted((CHECKPOINTS / "gpt2simple").iterdir()), makes="loose")
    assert workshop.ends(job) == ""
    assert check_folder(workshop.models / "loose").source.endswith("model-100, step 100")


@pytest.mark.long
def test_what_is_missing_is_asked_for_one_thing_after_the_other(workshop, bare_run):
    job = workshop.bring(bare_run)
    assert "give it with --n-head" in workshop.ends(job)
    page = workshop.page(job)
    assert "How many attention heads has it?" in page
    assert "which makes 1 of this width of 64" in page
    assert "One question, and it goes on." in page
    assert "--n-head" not in page, "the page asks in its own way"
    workshop.answer(job, "heads", heads="3")
    assert workshop.ends(job) == "n_head 3 does not divide n_embd 64."
    page = workshop.page(job)
    assert "n_head 3 does not divide n_embd 64." in page
    assert "How many attention heads has it?" in page, "a wrong answer leaves the question"
    workshop.answer(job, "heads", heads="2")
    sentence = "This run holds no vocabulary for its 50,257 tokens: say whose it is, with --vocab."
    assert workshop.ends(job) == sentence
    assert "Whose vocabulary has it?" in workshop.page(job)
    workshop.answer(job, "vocabulary", whose="gpt2")
    assert workshop.ends(job) == ""
    assert (
        check_folder(workshop.models / "new").certificate()["vocabulary"] == "GPT-2's own (from npm), as was asked for"
    )
    assert workshop.left() == []


@pytest.mark.long
def test_the_vocabulary_may_be_another_model_s_or_one_that_is_uploaded(workshop, bare_run):
    shutil.copytree(MODELS / "storyteller", workshop.models / "storyteller")
    job = workshop.bring(bare_run)
    workshop.ends(job)
    workshop.answer(job, "heads", heads="2")
    workshop.ends(job)
    broken = workshop.models.parent / "tokenizer.json"
    broken.write_text("{}")
    workshop.answer(job, "vocabulary", whose="upload", upload=workshop.upload(broken))
    assert "tokenizer.json" in workshop.ends(job)
    assert "Whose vocabulary has it?" in workshop.page(job)
    workshop.answer(job, "vocabulary", whose="model", model="storyteller")
    assert workshop.ends(job) == ""
    made = check_folder(workshop.models / "new")
    assert made.tokenizer.encode("The fox") == check_folder(workshop.models / "storyteller").tokenizer.encode("The fox")


def test_an_answer_that_is_no_number_of_heads_is_refused(workshop, bare_run):
    job = workshop.bring(bare_run)
    workshop.ends(job)
    for heads in ("", "0", "-1", "1.5", "x", "1" * 30, "²"):
        answer = workshop.operator.post(f"/workshop/bring/{job.rsplit('/', 1)[1]}/heads", data={"heads": heads})
        assert answer.status_code == 422
        assert "heads must be a whole number from 1 to 1024" in answer.text


@pytest.mark.long
def test_a_folder_of_this_server_is_converted_where_it_is(workshop):
    job = workshop.bring(path=str(CHECKPOINTS / "openai"))
    assert workshop.ends(job) == ""
    assert (CHECKPOINTS / "openai" / "checkpoint").exists()
    assert check_folder(workshop.models / "new").certificate()


def test_a_model_s_own_download_comes_back_as_it_was(workshop, tmp_path):
    shutil.copytree(MODELS / "storyteller", workshop.models / "storyteller")
    answer = workshop.operator.get("/workshop/models/storyteller/transformers.zip")
    (tmp_path / "storyteller.zip").write_bytes(answer.data)
    assert workshop.ends(workshop.bring(tmp_path / "storyteller.zip")) == ""
    assert check_folder(workshop.models / "new").fingerprint() == check_folder(MODELS / "storyteller").fingerprint()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Drop the files of a checkpoint first, or name a folder."),
        ({"path": "checkpoint/run1"}, "The place on this server must be a whole path, not 'checkpoint/run1'."),
        ({"path": "/tmp/\0"}, "The place on this server must be a whole path, not '/tmp/\\x00'."),
        ({"path": "/tmp/x", "makes": "../evil"}, "A model's name has 1 to 80 letters"),
        ({"hub": "a b"}, "A model on the hub is called NAME or OWNER/NAME"),
        ({"hub": "--help"}, "A model on the hub is called NAME or OWNER/NAME"),
        ({"upload": "0" * 32}, "There is no such upload here any more; choose the file again."),
        ({"upload": "../../etc"}, "There is no such upload here any more; choose the file again."),
    ],
)
def test_what_cannot_be_begun_is_one_sentence_in_the_form(workshop, fields, sentence):
    answer = workshop.operator.post("/workshop/bring", data=fields)
    assert answer.status_code in (404, 422)
    assert sentence in html.unescape(answer.text)
    assert "<form" in answer.text
    assert not list((workshop.instance / "jobs").glob("*/"))


def test_a_name_that_is_taken_leaves_what_was_uploaded_in_the_form(workshop, tmp_path):
    (workshop.models / "new").mkdir()
    (tmp_path / "a.zip").write_bytes(b"x")
    (upload,) = workshop.upload(tmp_path / "a.zip")
    answer = workshop.operator.post("/workshop/bring", data={"upload": upload, "makes": "new"})
    assert answer.status_code == 422
    assert "There is a model called new already" in answer.text
    assert f'value="{upload}"' in answer.text


def tar_of(file: Path, *members: tuple[str, bytes], **kind) -> Path:
    with tarfile.open(file, "w") as packed:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            for key, value in kind.items():
                setattr(info, key, value)
            packed.addfile(info, io.BytesIO(body))
    return file


def bomb(file: Path) -> Path:
    """A zip whose directory claims more than any disk has."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("run/model.ckpt.index", bytes(1000))
        packed.filelist[0].file_size = 2**45
    return file


def lying(file: Path) -> Path:
    """A zip with a member of another size than its directory says."""
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("run/model.ckpt.index", bytes(1000))
        packed.filelist[0].file_size = packed.filelist[0].compress_size = 500
    return file


def pickled(file: Path) -> Path:
    """Weights that would run a command if they were unpickled."""
    file.write_bytes(b"\x80\x02cposix\nsystem\nq\x00X\x0e\x00\x00\x00touch /tmp/hitq\x01\x85q\x02Rq\x03.")
    return file


def cut(file: Path) -> Path:
    whole = Path(shutil.make_archive(file.parent / "whole", "gztar", CHECKPOINTS / "openai"))
    file.write_bytes(whole.read_bytes()[:9000])
    return file


def several(file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as packed:
        for name in ("one", "two"):
            for part in (CHECKPOINTS / "openai").iterdir():
                packed.write(part, f"{name}/{part.name}")
    return file


def flipped(file: Path) -> Path:
    """A checkpoint with one bit that is another."""
    with zipfile.ZipFile(file, "w") as packed:
        for part in (CHECKPOINTS / "openai").iterdir():
            body = bytearray(part.read_bytes())
            if ".data-" in part.name:
                body[1000] ^= 1
            packed.writestr(part.name, bytes(body))
    return file


HOSTILE = {
    "above.tar": lambda file: tar_of(file, ("../evil.index", b"x")),
    "absolute.tar": lambda file: tar_of(file, ("/tmp/rubric-evil.index", b"x")),
    "link.tar": lambda file: tar_of(file, ("run/model.ckpt.index", b""), type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "empty.tar": lambda file: tar_of(file),
    "stranger.tar": lambda file: tar_of(file, ("notes.txt", b"x"), ("program.py", b"x")),
    "many.tar": lambda file: tar_of(file, *((f"{n}.txt", b"") for n in range(10_001))),
    "bomb.zip": bomb,
    "lying.zip": lying,
    "several.zip": several,
    "flipped.zip": flipped,
    "cut.tar.gz": cut,
    "none.zip": lambda file: file.write_bytes(b"<!doctype html>") and file,
    "part.zip.001": lambda file: file.write_bytes(b"PK") and file,
    "pytorch_model.bin": pickled,
    "bare.gguf": lambda file: file.write_bytes(b"GGUF") and file,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.long
def test_what_is_made_to_harm_is_refused_as_on_the_terminal_and_leaves_nothing(workshop, tmp_path, capsys, name):
    folder = tmp_path / "dropped"
    folder.mkdir()
    file = HOSTILE[name](folder / name)
    before = {path for path in tmp_path.rglob("*") if "instance" not in path.parts}
    assert convert([str(file), str(tmp_path / "elsewhere")]) == 1
    sentence = capsys.readouterr().err.strip().removeprefix("convert: ")
    job = workshop.bring(file)
    assert workshop.ends(job) == sentence
    page = workshop.page(job)
    assert sentence in page
    assert "What was uploaded for it is removed." in page
    assert "Try again" not in page
    assert workshop.left() == []
    assert list(workshop.models.iterdir()) == []
    assert {path for path in tmp_path.rglob("*") if "instance" not in path.parts} == before
    assert not any(Path(path).exists() for path in ("/tmp/hit", "/tmp/rubric-evil.index"))


def test_what_is_dropped_without_a_name_gets_one_that_is_free(workshop, tmp_path):
    (workshop.models / "notes").mkdir()
    jobs = [workshop.bring(HOSTILE["stranger.tar"](tmp_path / "notes.tar"), makes="") for _ in range(2)]
    with workshop.app.app_context():
        made = [workshop.state.jobs.find(job.rsplit("/", 1)[1]).makes for job in jobs]
    assert made == ["notes-2", "notes-3"]


def test_an_answer_that_nothing_asks_for_takes_no_upload_and_no_earlier_answer_away(workshop, bare_run, tmp_path):
    job = workshop.bring(bare_run)
    workshop.ends(job)
    (tmp_path / "vocab.bpe").write_text("#version: 0.2")
    (first,) = workshop.upload(tmp_path / "vocab.bpe")
    workshop.answer(job, "vocabulary", whose="upload", upload=first)  # in line now, and asks for nothing
    (second,) = workshop.upload(tmp_path / "vocab.bpe")
    for what, fields in (("vocabulary", {"whose": "upload", "upload": second}), ("heads", {"heads": "2"})):
        answer = workshop.operator.post(f"/workshop/bring/{job.rsplit('/', 1)[1]}/{what}", data=fields)
        assert answer.status_code == 422
        assert "This conversion asks for nothing just now." in answer.text
    assert workshop.state.uploads.find(second).is_whole
    with workshop.app.app_context():
        found = workshop.state.jobs.find(job.rsplit("/", 1)[1])
        given = found.arguments[found.arguments.index("--vocab") + 1]
        assert (workshop.state.jobs.folder(found) / given / "vocab.bpe").read_text() == "#version: 0.2"


def test_a_job_that_is_thrown_away_while_it_asks_leaves_nothing(workshop, bare_run):
    job = workshop.bring(bare_run)
    workshop.ends(job)
    assert "checkpoint_run1.tar.gz" in workshop.left()
    assert workshop.operator.post(f"{job}/throw-away").status_code == 303
    with workshop.app.app_context():
        workshop.state.runner.tend()
    assert list((workshop.instance / "jobs").glob("*/")) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("checkpoint_run1.tar.gz", "checkpoint_run1"),
        ("My run (2).zip", "My-run-2"),
        ("狐狸.zip", "brought"),
        (".zip", "brought"),
        ("gpt2.q8_0.gguf", "gpt2.q8_0"),
    ],
)
def test_a_model_is_named_after_what_was_dropped(file, name):
    assert name_for(file) == name


@pytest.mark.long
def test_the_page_s_options_are_the_terminal_s(workshop, bare_run, tmp_path):
    """The same words as on the command line, and the same bits."""
    job = workshop.bring(bare_run)
    workshop.ends(job)
    workshop.answer(job, "heads", heads="2")
    workshop.ends(job)
    workshop.answer(job, "vocabulary", whose="gpt2")
    workshop.ends(job)
    with workshop.app.app_context():
        source, *options = workshop.state.jobs.find(job.rsplit("/", 1)[1]).arguments
    assert (source, options) == ("source/checkpoint_run1.tar.gz", ["--ask", "--n-head", "2", "--vocab", "gpt2"])
    assert convert([str(bare_run), str(tmp_path / "by-hand"), *options]) == 0
    for name in os.listdir(tmp_path / "by-hand"):
        assert (tmp_path / "by-hand" / name).read_bytes() == (workshop.models / "new" / name).read_bytes(), name
