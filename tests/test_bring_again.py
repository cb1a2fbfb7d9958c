"""A conversion that failed for want of room keeps what was uploaded, and can be tried again; one of a broken file does not."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from conftest import ROOT
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


class Hub(http.server.BaseHTTPRequestHandler):
    """The hub as far as it is asked: a GPT-2 whose config is there, and whose weights it only tells the size of."""

    sizes: ClassVar = {"config.json": 27, "model.safetensors": 10**15, "README.md": 1}
    asked: ClassVar[list] = []

    def do_GET(self):
        self.asked.append(self.path)
        if "/resolve/" in self.path:
            self.tell(b'{"model_type": "gpt2"     }')
        else:
            files = [{"rfilename": name, "size": size} for name, size in self.sizes.items()]
            tree = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in self.sizes.items()]
            self.tell(
                json.dumps(tree if "/tree/" in self.path else {"id": "me/tales", "sha": "a" * 40, "siblings": files})
            )

    def do_HEAD(self):
        self.tell(b"", self.sizes[self.path.rpartition("/")[2]])

    def tell(self, body, length=None):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(200)
        for name, value in {"ETag": '"1"', "X-Repo-Commit": "a" * 40, "Content-Length": length or len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given):
        pass


def test_a_model_of_the_hub_that_the_disk_has_no_room_for_is_not_fetched(tmp_path):
    (tmp_path / "models").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(tmp_path / "cache"),
        }
        command = [sys.executable, "-m", "convert", "hub:me/tales", str(tmp_path / "models/new"), "--ask"]
        journal = tmp_path / "journal"
        done = subprocess.run([*command, f"--journal={journal}"], cwd=ROOT, env=environment, check=False, timeout=60)
        hub.shutdown()
    assert done.returncode == 1
    refusal = json.loads(journal.read_text().splitlines()[-1])
    assert refusal["again"] is True
    assert re.match(
        r"me/tales has 1,000,000,000,000,0\d\d bytes on the hub; to fetch it and make a model of it 3,000,0\S+ are needed, and "
        r"this disk has \S+ left\.$",
        refusal["sentence"],
    )
    assert not any("/resolve/" in path and "safetensors" in path for path in Hub.asked)
    assert os.listdir(tmp_path / "models") == []


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
