"""Engines behind nginx, by the file that docs/scale.md hands out: one dies in mid-text, and nobody's text is lost."""

import os
import re
import subprocess
from contextlib import closing

import pytest
from browser import free_port
from conftest import ROOT, finished, started
from proxies import proxy_path, wait_until_open
from remotes import upstream

from generate import RemoteEngine, Request, Sampling

pytestmark = pytest.mark.long


@pytest.fixture
def engines(models, tmp_path):
    with upstream(models, tmp_path / "one") as one, upstream(models, tmp_path / "two") as two:
        yield one, two


@pytest.fixture
def balancer(engines, tmp_path):
    """nginx with the file as it stands, but for the ports and where a test may write."""
    if not proxy_path("nginx"):
        pytest.fail("nginx is missing: install it for the tests (on Debian: apt install nginx).", pytrace=False)
    text, port = (ROOT / "docs/nginx-engines.conf").read_text(), free_port()
    for old, new in {"8001": engines[0].url, "8002": engines[1].url, "8080": f"http://127.0.0.1:{port}"}.items():
        assert text.count(f"127.0.0.1:{old}") == 1
        text = text.replace(f"127.0.0.1:{old}", new.removeprefix("http://"))
    paths = [f"{name}_temp_path {tmp_path}/{name};" for name in ("proxy", "fastcgi", "scgi", "uwsgi")]
    paths.append(f"client_body_temp_path {tmp_path}/body;")
    text = text.replace("http {", "http {\n" + "\n".join(paths))
    user = "user root;" if os.geteuid() == 0 else ""
    file, log = tmp_path / "nginx.conf", tmp_path / "error.log"
    file.write_text(f"{user}\ndaemon off;\npid {tmp_path}/pid;\nerror_log {log};\n{text}")
    with log.open("ab") as output:
        process = subprocess.Popen([proxy_path("nginx"), "-e", log, "-c", file], stdout=output, stderr=output)
    try:
        wait_until_open(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def broken_off(parts):
    for number, part in enumerate(parts):
        if number == 3:
            raise ConnectionError("a fault was asked for")
        yield part


def test_both_write_and_where_one_breaks_off_nothing_is_lost(models, engines, balancer, tiny):
    broken = []

    def twice(_number, body):
        if body.get("stream") and len(broken) < 2:
            broken.append(body)
            return broken_off
        return None

    engines[1].between.fault = twice
    with closing(started(RemoteEngine(models, [balancer]).start())) as engine:
        runs = []
        for seed in range(8):
            request = Request(tiny, Sampling(seed=seed, max_new_tokens=300, min_new_tokens=300), owner=str(seed))
            runs.append(engine.submit(request, request.new_log(tiny.encode_prompt("the old king"))))
        for run in runs:
            sample = finished(run).samples[0]
            assert (len(sample), sample.finish_reason, sample.error) == (300, "length", None)
    assert all(any(body.get("stream") for body in one.between.bodies) for one in engines)
    assert len(broken) == 2


def test_the_file_names_what_rubric_waits_for():
    text = (ROOT / "docs/nginx-engines.conf").read_text()
    assert int(re.search(r"proxy_read_timeout (\d+)s", text)[1]) > 60, "a silence of 60 s is ours to end"
    assert "proxy_buffering off" in text
