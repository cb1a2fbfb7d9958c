"""The files for whoever hosts Rubric do what they say: a unit of systemd, and sites of nginx and Caddy."""

import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from browser import Window, serving
from conftest import ROOT
from proxies import CADDY, NGINX, proxy, proxy_path

from webapp.routes.teach import MOST

DEPLOY = ROOT / "deploy"
EXPOSED = 1.5  # of 10, by systemd's count


def analyze(*words) -> subprocess.CompletedProcess:
    if not shutil.which("systemd-analyze"):
        pytest.fail("systemd-analyze is missing: install systemd for the tests.", pytrace=False)
    command = ["systemd-analyze", "--no-pager", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    program, unit = tmp_path / "rubric", tmp_path / "rubric.service"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit.write_text((DEPLOY / "rubric.service").read_text().replace("/opt/rubric/bin/rubric", str(program)))
    checked = analyze("verify", "--man=no", unit)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_lets_the_server_do_little_but_its_work():
    told = analyze("security", "--offline=true", DEPLOY / "rubric.service").stdout
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", told)[1]) <= EXPOSED
    for name in ("MemoryDenyWriteExecute", "PrivateNetwork"):  # they would keep it from its work
        assert re.search(rf"✗ {name}=", told)


def test_the_unit_tells_trainings_that_it_ends_and_gives_all_time_to_save():
    unit = (DEPLOY / "rubric.service").read_text()
    assert re.findall("(?m)^KillMode=(.*)$", unit) == ["control-group"], "mixed kills them once the server has gone"
    patience = int(re.search(r"(?m)^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text())[1])
    assert int(re.search(r"(?m)^TimeoutStopSec=(\d+)$", unit)[1]) >= 3 * patience


def site(kind: str) -> str:
    """A site's file with the addresses of a test in it, as `proxy` takes it."""
    text = (DEPLOY / {"nginx": "nginx.conf", "caddy": "Caddyfile"}[kind]).read_text()
    text = re.sub("#.*", "", text).replace("{", "{{").replace("}", "}}").replace("127.0.0.1:8000", "127.0.0.1:{app}")
    if kind == "caddy":
        plain = "http://127.0.0.1:{plain} {{\n redir https://127.0.0.1:{tls}{{uri}}\n}}\n"  # as Caddy does at port 80
        named = "https://127.0.0.1:{tls} {{\n tls {folder}/certificate {folder}/key\n"
        return CADDY[: CADDY.index("http://")] + plain + text.replace("rubric.example {{\n", named)
    text = text.replace("listen 80;", "listen 127.0.0.1:{plain};").replace("listen 443 ", "listen 127.0.0.1:{tls} ")
    for name, file in (("certificate", "certificate"), ("certificate_key", "key")):
        text = re.sub(rf"ssl_{name} .*;", f"ssl_{name} {{folder}}/{file};", text)
    return NGINX[: NGINX.index("    server {{")] + text + "}}\n"


def test_nginx_lets_through_whatever_the_workshop_takes():
    text = (DEPLOY / "nginx.conf").read_text()
    everywhere, teach = (int(size) * 2**20 for size in re.findall(r"client_max_body_size (\d+)m;", text))
    piece = re.search(r"PIECE = (\d+) \* 2 \*\* 20", (ROOT / "static/uploads/arrival.js").read_text())
    assert int(piece[1]) * 2**20 <= everywhere
    assert teach >= MOST + 2**19  # the form's other fields
    assert text.index("location /workshop/teach") < text.index("client_max_body_size 33m")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_behind_the_site_a_sheet_is_written_and_its_link_is_the_public_address(kind, browser, models, ports, tmp_path):
    if not proxy_path(kind):
        pytest.fail(f"{kind} is missing: install it for the tests (on Debian: apt install {kind}).", pytrace=False)
    public = f"https://127.0.0.1:{ports['tls']}"
    settings = {"PUBLIC_URL": public, "TRUSTED_PROXIES": "1"}
    with (
        serving(tmp_path, models, **settings) as server,
        proxy(kind, tmp_path, server.port, **ports, settings=site(kind)),
    ):
        window = Window(browser, SimpleNamespace(url=public), ignore_https_errors=True)
        window.type("Once upon a time", "/?max_new_tokens=40&seed=1")
        window.page.keyboard.press("Control+Enter")
        window.wait_until_written()
        window.page.click(".acts .sharing")
        link = window.page.wait_for_selector("dialog .address input").input_value()
        assert link == window.page.evaluate("location.href.split('?')[0]")
        assert link.startswith(f"{public}/s/")
        window.context.close()
        assert window.errors == []
