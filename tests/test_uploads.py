"""Uploads by tus: in pieces, from the last byte on after any cut, and nothing that a client does wrong leaves anything behind.

Source: tus.io/protocols/resumable-upload, version 1.0.0.
"""

import io
import os
import shutil
import threading
import time
import tracemalloc
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from operating import operator_cookie
from uploading import TUS, UPLOADS, Uploader

from generate import Refusal, read_settings
from webapp import create_app
from webapp.uploads.refusals import Misplaced
from webapp.uploads.store import MARGIN, Uploads

BODY = bytes(range(256)) * 40


@pytest.fixture
def app(tmp_path):
    return create_app(read_settings({"RUBRIC_INSTANCE": str(tmp_path / "instance")}), None)


@pytest.fixture
def uploads(app) -> Uploads:
    return app.extensions["rubric"].uploads


@pytest.fixture
def client(app):
    client = app.test_client()
    client.set_cookie(*operator_cookie(Path(app.instance_path)))
    return Uploader(client)


def stored(uploads, address) -> bytes:
    return uploads.find(address.rsplit("/", 1)[-1]).data.read_bytes()


def test_a_file_arrives_in_pieces_and_says_after_each_how_far_it_is(client, uploads):
    address = client.address("run.zip", len(BODY))
    for begin in range(0, len(BODY), 3000):
        assert client.offset(address) == begin
        answer = client.send(address, begin, BODY[begin : begin + 3000])
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(min(begin + 3000, len(BODY))))
    assert stored(uploads, address) == BODY


def test_every_answer_names_the_version_and_how_long_the_upload_stays(client):
    address = client.address("run.zip", 10)
    for answer in (client.begin("a", 1), client.asked(address), client.send(address, 0, b"12"), client.remove(address)):
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert answer.headers["Cache-Control"] == "no-store"
    expires = parsedate_to_datetime(client.begin("a", 1).headers["Upload-Expires"]).timestamp()
    assert 86_300 < expires - time.time() < 86_500


def test_what_is_spoken_is_told_to_whoever_asks(client):
    answer = client.client.options(UPLOADS)
    assert answer.status_code == 204
    assert answer.headers["Tus-Extension"] == "creation,expiration,termination"
    assert answer.headers["Tus-Version"] == "1.0.0"


@pytest.mark.parametrize("version", [None, "0.2.2", "2.0.0"])
def test_another_version_is_refused_with_the_one_that_is_spoken(client, version):
    headers = {name: value for name, value in TUS.items() if name != "Tus-Resumable"}
    headers |= {} if version is None else {"Tus-Resumable": version}
    answer = client.client.post(UPLOADS, headers=headers | {"Upload-Length": "1"})
    assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")


@pytest.mark.parametrize("length", ["", "-1", "1.5", "ten", "1" * 16, "0x10", "١"])
def test_a_length_that_is_no_number_of_bytes_is_refused(client, uploads, length):
    answer = client.begin("run.zip", 0, **{"Upload-Length": length.encode().decode("latin-1")})
    assert answer.status_code == 400
    assert answer.json["problem"].startswith("Upload-Length must be a whole number of bytes, not ")
    assert uploads.all() == []


def test_a_length_beyond_all_models_is_refused_by_its_number(client):
    answer = client.begin("run.zip", 2**40)
    assert answer.status_code == 413
    assert answer.json["problem"] == (
        "run.zip has 1,099,511,627,776 bytes, and no upload may have more than 68,719,476,736."
    )


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a\nb", "\0", "x" * 201, b"\xff"])
def test_what_no_file_is_called_is_refused(client, uploads, name):
    answer = client.begin(name, 10)
    assert answer.status_code == 400
    assert "filename must be" in answer.json["problem"] or "must be UTF-8" in answer.json["problem"]
    assert uploads.all() == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\Users\\me\\passwd", "/etc/passwd", "a/../passwd"])
def test_the_folders_of_a_name_are_left_out(client, uploads, name):
    client.begin(name, 10)
    assert [upload.name for upload in uploads.all()] == ["passwd"]


def test_a_full_disk_is_told_before_a_byte_is_sent(client, uploads, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=MARGIN + 3000))
    answer = client.begin("run.zip", 1001)
    assert answer.status_code == 413
    assert answer.json["problem"] == (
        "run.zip has 1,001 bytes; to take it in, unpack it and make a model of it 268,438,459 are needed, and this server's "
        "disk has 268,438,456 left."
    )
    assert client.begin("run.zip", 1000).status_code == 201
    assert client.begin("other.zip", 1000).status_code == 413, "what was promised to the first is not there any more"


def test_a_piece_that_comes_again_or_leaves_a_gap_changes_nothing(client, uploads):
    address = client.address("run.zip", len(BODY))
    client.send(address, 0, BODY[:3000])
    for offset in (0, 1500, 2999, 3001, 10**9):
        answer = client.send(address, offset, b"other")
        assert answer.status_code in (409, 413)
    assert stored(uploads, address) == BODY[:3000]


def test_a_file_that_is_longer_than_announced_ends_where_it_was_to_end(client, uploads):
    address = client.address("run.zip", 5000)
    assert client.send(address, 0, BODY[:5001]).status_code == 413
    assert client.send(address, 0, BODY[:4000]).status_code == 204
    answer = client.send(address, 4000, BODY[4000:6000])
    assert answer.status_code == 413
    assert answer.json["problem"] == "run.zip goes on beyond the 5,000 bytes that were announced."
    assert stored(uploads, address) == BODY[:4000]


def test_a_stream_that_hides_its_length_is_stopped_where_the_file_was_to_end(uploads):
    upload = uploads.create("run.zip", 1000)

    def endless():
        while True:
            yield b"x" * 400

    with pytest.raises(Refusal, match=r"goes on beyond the 1,000 bytes"):
        uploads.append(upload, 0, endless())
    assert upload.offset == 800


@pytest.mark.parametrize("kind", [None, "application/octet-stream", "text/plain"])
def test_what_is_no_piece_is_refused(client, uploads, kind):
    address = client.address("run.zip", 10)
    assert client.send(address, 0, b"12345", **{"Content-Type": kind or ""}).status_code == 415
    assert stored(uploads, address) == b""


@pytest.mark.parametrize("upload_id", ["0" * 32, "..", "%2e%2e", "a" * 31, "A" * 32, "%00"])
def test_what_was_never_begun_is_not_there(client, upload_id):
    for answer in (client.asked(f"{UPLOADS}/{upload_id}"), client.send(f"{UPLOADS}/{upload_id}", 0, b"1")):
        assert answer.status_code == 404


def test_what_is_given_up_is_gone(client, uploads):
    address = client.address("run.zip", len(BODY))
    client.send(address, 0, BODY[:3000])
    assert client.remove(address).status_code == 204
    assert os.listdir(uploads.folder) == []
    for answer in (client.asked(address), client.send(address, 3000, BODY[3000:]), client.remove(address)):
        assert answer.status_code == 404


def test_an_upload_that_never_ends_is_removed_a_day_after_its_last_byte(client, uploads):
    old, new = client.address("old.zip", 10), client.address("new.zip", 10)
    client.send(old, 0, b"12345")
    (uploads.folder / "half-made").mkdir()
    last = time.time() - uploads.keep - 1
    for file in (uploads.find(old.rsplit("/", 1)[-1]).data, uploads.folder / "half-made"):
        os.utime(file, (last, last))
    assert client.asked(old).status_code == 404, "also before it is removed"
    uploads.expire()
    assert os.listdir(uploads.folder) == [new.rsplit("/", 1)[-1]]


def test_a_server_that_was_killed_goes_on_from_what_is_on_the_disk(client, uploads):
    address = client.address("run.zip", len(BODY))
    client.send(address, 0, BODY[:3000])
    again = Uploads(uploads.folder)
    found = again.find(address.rsplit("/", 1)[-1])
    assert (found.name, again.append(found, 3000, iter([BODY[3000:]]))) == ("run.zip", len(BODY))
    assert found.data.read_bytes() == BODY


class Slow:
    """A connection whose next bytes come when the test lets them."""

    def __init__(self, *parts):
        self.parts, self.more, self.asked = list(parts), threading.Event(), threading.Event()

    def __iter__(self):
        yield self.parts.pop(0)
        self.asked.set()
        assert self.more.wait(30)
        yield from self.parts


@pytest.mark.parametrize("takes_over", ["ask", "append"])
def test_who_goes_on_after_a_cut_is_not_disturbed_by_the_cut_connection(uploads, takes_over):
    upload, said = uploads.create("run.zip", 10), []
    slow = Slow(b"abc", b"LATE")

    def first():
        try:
            uploads.append(upload, 0, iter(slow))
        except Refusal as refusal:
            said.append(str(refusal))

    thread = threading.Thread(target=first)
    thread.start()
    assert slow.asked.wait(30)
    if takes_over == "ask":
        assert uploads.ask(upload) == 3
    else:
        uploads.append(upload, 3, iter([b"defghij"]))
    slow.more.set()
    thread.join(30)
    assert said == ["Another piece of this file is being sent."]
    if takes_over == "ask":
        uploads.append(upload, 3, iter([b"defghij"]))
    assert upload.data.read_bytes() == b"abcdefghij"


def test_a_disk_that_fills_up_keeps_what_came_and_says_so(uploads, monkeypatch):
    upload = uploads.create("run.zip", 10)
    uploads.append(upload, 0, iter([b"abc"]))

    there = upload.data.open("rb")

    class Full:
        def write(self, block):
            raise OSError(28, "No space left on device")

        def fileno(self):
            return there.fileno()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(type(upload.data), "open", lambda *_, **__: Full())
    with pytest.raises(Refusal, match=r"^run.zip cannot be stored \(No space left on device\)\.$") as refused:
        uploads.append(upload, 3, iter([b"def"]))
    assert refused.value.status == 507
    assert upload.offset == 3


def test_the_same_file_twice_is_two_uploads_and_only_whole_ones_with_names_of_their_own_are_taken(
    client, uploads, tmp_path
):
    one, other = (client.address("run.zip", len(BODY)) for _ in range(2))
    names = [address.rsplit("/", 1)[-1] for address in (one, other)]
    client.send(one, 0, BODY)
    with pytest.raises(Refusal, match=r"^run.zip is not here whole: 0 of 10,240 bytes have come\.$"):
        uploads.move(names, tmp_path / "job")
    client.send(other, 0, BODY)
    with pytest.raises(Refusal, match=r"^Two of these files are called run.zip"):
        uploads.move(names, tmp_path / "job")
    assert not (tmp_path / "job").exists()
    assert uploads.move(names[:1] * 2, tmp_path / "job") == [tmp_path / "job" / "run.zip"]
    assert (tmp_path / "job" / "run.zip").read_bytes() == BODY
    assert [upload.id for upload in uploads.all()] == names[1:]


class Zeros(io.RawIOBase):
    """A large body, of which nothing is in memory."""

    def __init__(self, size):
        self.size, self.place = size, 0

    def readable(self):
        return True

    def tell(self):
        return self.place

    def seek(self, place, whence=os.SEEK_SET):
        self.place = place + (self.size if whence == os.SEEK_END else 0)

    def readinto(self, into):
        into[:] = bytes(len(into))
        return len(into)


def test_memory_stays_flat_however_large_a_piece_is(client):
    address = client.address("run.zip", 64 * 2**20)
    headers = TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    tracemalloc.start()
    answer = client.client.patch(address, headers=headers, input_stream=Zeros(64 * 2**20))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status_code, client.offset(address)) == (204, 64 * 2**20)
    assert most < 8 * 2**20


def test_for_a_stranger_there_are_no_uploads(client, app, uploads):
    address = client.address("run.zip", 10)
    stranger = Uploader(app.test_client())
    answers = [
        stranger.begin("a", 1),
        stranger.asked(address),
        stranger.send(address, 0, b"12"),
        stranger.remove(address),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert stored(uploads, address) == b""


def test_a_page_of_another_site_may_neither_begin_nor_send_nor_remove(client, uploads):
    address = client.address("run.zip", 10)
    foreign = TUS | {"Origin": "https://other.example"}
    piece = foreign | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.client.post(UPLOADS, headers=foreign | {"Upload-Length": "1"}).status_code == 403
    assert client.client.patch(address, headers=piece, data=b"12").status_code == 403
    assert client.client.delete(address, headers=foreign).status_code == 403
    assert stored(uploads, address) == b""


def test_two_servers_never_mix_one_file(tmp_path):
    """Each process has turns of its own; what the other wrote in between is seen at the next block."""
    first, second = Uploads(tmp_path / "uploads"), Uploads(tmp_path / "uploads")
    upload = first.create("run.zip", 8)

    def blocks():
        yield b"aa"
        assert second.append(upload, 2, iter([b"bb"])) == 4
        yield b"cc"

    with pytest.raises(Misplaced, match="Another piece of this file is being sent"):
        first.append(upload, 0, blocks())
    assert upload.data.read_bytes() == b"aabb"
