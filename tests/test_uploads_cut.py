"""A large file over a bad network, to a real server: it arrives, and takes no memory."""

import hashlib
import http.client
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from browser import serving
from cutter import Cutter
from operating import operator_cookie
from uploading import TUS, UPLOADS, named
from waiting import until

SIZES = [
    pytest.param(150_000_000, marks=pytest.mark.long),
    pytest.param(1_420_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),  # GPT-2 with 345M parameters
]
MOST = 100_000  # kB that an upload may take


def workers(server) -> list[Path]:
    """What Linux tells of the processes that answer."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [Path(f"/proc/{pid}") for pid in children]


def memory_of(server, what: str) -> int:
    """What its processes have in memory (VmRSS), or had at most (VmHWM), in kB."""
    return sum(int(re.search(rf"{what}:\s+(\d+) kB", (one / "status").read_text())[1]) for one in workers(server))


def pieces(begin: int, end: int) -> Iterator[bytes]:
    """A part of a file of which nothing else is in memory: each MiB of it is another one."""
    while begin < end:
        number, within = divmod(begin, 2**20)
        piece = hashlib.shake_256(number.to_bytes(8)).digest(2**20)[within : within + end - begin]
        yield piece
        begin += len(piece)


def digest(blocks: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


class Sender:
    """Sends over a network that can be cut, as the operator."""

    def __init__(self, server, network):
        cookie = "=".join(operator_cookie(server.folder / "instance"))
        self.network, self.headers = network, TUS | {"Cookie": cookie}

    def connected(self):
        return closing(http.client.HTTPConnection("127.0.0.1", self.network.port, timeout=60))

    def ask(self, method, path, headers=None):
        with self.connected() as connection:
            connection.request(method, path, headers=self.headers | (headers or {}))
            answer = connection.getresponse()
            answer.read()
            return answer

    @contextmanager
    def sending(self, address, begin, end, length):
        """A piece that is announced up to `length`, and sent up to `end`."""
        about = {"Upload-Offset": begin, "Content-Type": "application/offset+octet-stream"}
        with self.connected() as connection:
            connection.putrequest("PATCH", address)
            for name, value in (self.headers | about | {"Content-Length": length - begin}).items():
                connection.putheader(name, str(value))
            connection.endheaders(pieces(begin, end))
            yield connection


@pytest.mark.whole
@pytest.mark.parametrize("size", SIZES)
def test_a_file_whose_connection_is_cut_twice_arrives(tmp_path, models, size):
    """The network resets the connection; the client asks how far it came, and goes on. Memory stays flat all the while."""
    with serving(tmp_path, models, RUBRIC_MODEL="tiny") as server:
        network = Cutter(server)
        sender, cuts = Sender(server, network), 0
        address = sender.ask("POST", UPLOADS, named("run.tar") | {"Upload-Length": str(size)}).headers["Location"]
        data = server.folder / "instance" / "uploads" / address.rsplit("/", 1)[-1] / "data"
        before = memory_of(server, "VmRSS")
        for worker in workers(server):
            (worker / "clear_refs").write_text("5")  # it forgets how much it had at most
        while (here := int(sender.ask("HEAD", address).headers["Upload-Offset"])) < size:
            end = size if cuts == 2 else here + size // 3
            with sender.sending(address, here, end, size) as connection:
                if end == size:
                    assert connection.getresponse().status == 204
                else:
                    until(lambda begun=here: data.stat().st_size > begun + size // 6, 300, "the arrival of most of it")
                    cuts += network.cut() > 0
        network.close()
        assert cuts == 2
        assert memory_of(server, "VmHWM") - before < MOST
        with data.open("rb") as arrived:
            assert digest(iter(lambda: arrived.read(2**20), b"")) == digest(pieces(0, size))
        data.unlink()  # what tests leave stays for a while
