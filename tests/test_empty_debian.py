"""From an empty Debian to the first streamed token in three minutes, by pipx and by uvx as docs/deploy.md has them.

Run by `make soak` and not with what is `long`: it fetches from Debian and from pip's index for as long as their servers take,
and enters a Debian in a folder, which a container of CI's may not be allowed to.
"""

import os
import resource
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import debian
import pytest
from browser import free_port, start_run
from waiting import until_up

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SECONDS = 180
INSTALL = "apt-get update -qq; apt-get install --yes -qq --no-install-recommends"
WAYS = {
    "pipx": f"""
        {INSTALL} pipx
        pipx install --pip-args="--extra-index-url file:///torch" /rubric-*.whl
        exec /root/.local/bin/rubric serve --port PORT""",
    "uvx": f"""
        {INSTALL} python3-venv
        python3 -m venv /uv
        /uv/bin/pip install --quiet uv
        [ ! -e /{debian.CERTIFICATES} ] || export SSL_CERT_FILE=/{debian.CERTIFICATES}
        exec /uv/bin/uvx --index file:///torch --index-strategy unsafe-best-match --from /rubric-*.whl rubric serve --port PORT""",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """An empty Debian with two files in it: the wheel, and torch at the address `file:///torch`."""
    folder = tmp_path_factory.mktemp("debian")
    try:
        root = debian.make(folder / "root")
    except debian.Impossible as why:
        pytest.fail(str(why), pytrace=False)
    rubric, torch = debian.wheels(folder / "wheels")
    shutil.copy(rubric, root)
    debian.index(root / "torch", torch)
    return root


@pytest.fixture(params=WAYS)
def way(request) -> str:
    return request.param


@pytest.fixture
def root(base, tmp_path):
    """A copy of it for one way."""
    subprocess.run(["cp", "--archive", str(base), str(tmp_path / "root")], check=True)
    yield tmp_path / "root"
    shutil.rmtree(tmp_path / "root")


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(f"{url}/readyz", timeout=2).status == 200
    except OSError:
        return False


def first_token(run: str) -> str:
    """The event that brings it."""
    with urllib.request.urlopen(f"{run}/events", timeout=60) as events:
        return next(line for line in events if b'hx-target="#sample-0"' in line).decode()


def end(process: subprocess.Popen) -> None:
    """Ask the first process in the Debian to end, so that its seconds are counted; kill it when it does not."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(60)


def at_work() -> float:
    """Seconds of a processor that everything took which was started here and is over."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_an_empty_debian_streams_within_three_minutes(root, way, tmp_path):
    port, log = free_port(), tmp_path / "log"
    server = SimpleNamespace(url=f"http://127.0.0.1:{port}")
    begun, worked = time.monotonic(), at_work()
    with log.open("wb") as out:
        command = debian.within(root, WAYS[way].replace("PORT", str(port)))
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until_up(process, lambda: answers(server.url), log, 1500)
        served = time.monotonic() - begun
        assert "<span" in first_token(start_run(server))
        seconds = time.monotonic() - begun
    finally:
        end(process)
    worked = at_work() - worked
    print(f"\n{way}: serves after {served:.0f} s, first token after {seconds:.1f} s, of a processor {worked:.0f} s")
    assert "Traceback" not in log.read_text()
    assert min(seconds, worked) < SECONDS, "what others do on this machine is not counted"
