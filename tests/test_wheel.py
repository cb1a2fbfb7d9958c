"""The wheel carries all that the page needs: installed elsewhere, it serves, writes and draws without the checkout."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import debian
import pytest
from browser import Server, until
from conftest import ROOT

from hatch_build import NO_NODE

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The home folder of a user who installed the wheel into `lib`, without what it depends on: that is here already."""
    home = tmp_path_factory.mktemp("home")
    wheel = built(ROOT, home)
    debian.pip("install", "--no-deps", "--target", str(home / "lib"), str(wheel))
    return home


def built(source: Path | str, folder: Path) -> Path:
    """The wheel that pip makes of a source."""
    debian.pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (wheel,) = folder.glob("rubric-*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, str]:
    """The hash of every file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        return {name: digest for name, digest, _ in csv.reader(io.StringIO(archive.read(record).decode()))}


@pytest.fixture
def bare(tmp_path) -> Path:
    """A checkout as git gives it, with all that is here, in which nobody ran anything yet."""
    folder = tmp_path / "bare"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.split("\0")[:-1]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def without_node(tmp_path, monkeypatch):
    """Call it, and there is no npm any more."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git"))
    return lambda: monkeypatch.setenv("PATH", str(tools))


def test_a_bare_checkout_without_node_is_refused_by_a_sentence_that_pip_shows(bare, without_node, tmp_path):
    without_node()
    for source in (bare, f"git+file://{bare}"):
        with pytest.raises(subprocess.CalledProcessError) as failed:
            built(source, tmp_path / "wheels")
        assert NO_NODE in failed.value.stderr
        assert "Traceback" not in failed.value.stderr
    assert not (bare / "node_modules").exists()


def test_a_bare_checkout_a_git_address_and_an_sdist_become_the_same_wheel(bare, home, without_node, tmp_path):
    (wheel,) = home.glob("rubric-*.whl")
    expected = contents(wheel)
    assert len(expected) > 400
    assert contents(built(f"git+file://{bare}", tmp_path / "address")) == expected
    assert contents(built(bare, tmp_path / "bare wheel")) == expected
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist"], cwd=bare, check=True, timeout=200)
    (sdist,) = (bare / "dist").iterdir()
    without_node()
    assert contents(built(sdist, tmp_path / "sdist wheel")) == expected


@pytest.fixture(scope="module")
def environment(home) -> dict[str, str]:
    """Of a process that finds the wheel and not the checkout."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RUBRIC_", "XDG_", "DATABASE_URL"))
    }
    return kept | {
        "HOME": str(home),
        "PYTHONPATH": str(home / "lib"),
        "PYTHONSAFEPATH": "1",
        "RUBRIC_PRECISION": "float32",
    }


def run(environment, home, *command) -> str:
    command = [sys.executable, *command]
    return subprocess.run(
        command, cwd=home, env=environment, check=True, capture_output=True, text=True, timeout=200
    ).stdout


@pytest.fixture(scope="module")
def server(home, environment, models):
    """The installed page, with a model of the user's beside the one that was shipped."""
    own = home / ".local/share/rubric/models/tiny"
    shutil.copytree(models / "tiny", own)
    server = Server(home)
    for name in ("RUBRIC_INSTANCE", "RUBRIC_MODELS"):
        server.environment.pop(name, None)
    server.environment |= environment
    try:  # it compiles first, in a place that is new
        yield server.start(str(home / "lib/bin/rubric"), "serve", "--port", str(server.port), cwd=home, seconds=200)
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()


def read(server, address: str, **fields) -> tuple[bytes, str]:
    """The body of a page or of what a form leads to, and its address."""
    data = urllib.parse.urlencode(fields).encode() if fields else None
    with urllib.request.urlopen(urllib.parse.urljoin(server.url, address), data, timeout=60) as answer:
        return answer.read(), answer.url


def test_no_module_and_no_file_is_taken_from_the_checkout(home, environment):
    code = (
        "import convert, finetune, generate, json, webapp\n"
        "found = {package.__name__: package.__file__ for package in (convert, finetune, generate, webapp)}\n"
        "found |= {name: str(path) for name, path in vars(generate.files).items() if name.isupper()}\n"
        "assert found.pop('INSTALLED') == 'True'\n"
        "print(json.dumps(found))"
    )
    found = json.loads(run(environment, home, "-c", code))
    assert {"convert", "webapp", "TEMPLATES", "STATIC", "NODE_MODULES", "MIGRATIONS", "MODELS"} <= found.keys()
    assert all(Path(path).is_relative_to(home) for path in found.values())


def test_every_file_that_the_home_page_asks_for_is_served(server):
    page = read(server, "/")[0].decode()
    asked = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert {"htmx.min.js", "hx-sse.min.js", "opsz.css", "index.css", "rubric.css"} <= {
        Path(urllib.parse.urlsplit(address).path).name for address in asked
    }
    for address in asked:
        body, url = read(server, address.replace("&amp;", "&"))
        for file in re.findall(rb"url\(\./(.+?)\)", body):
            assert read(server, urllib.parse.urljoin(url, file.decode()))[0].startswith(b"wOF2")


def test_the_shipped_model_and_the_users_own_are_both_listed(server):
    page = read(server, "/")[0].decode()
    assert re.findall(r'<option value="([^"]+)"', page)[:2] == ["storyteller", "tiny"]


def test_a_run_is_written_and_its_card_is_drawn(server, home):
    _, url = read(server, "/runs", prompt="从前 🦊 Once", model="storyteller", max_new_tokens="5", seed="1")
    until(lambda: json.loads(read(server, url + ".json")[0])["state"] == "done")
    assert read(server, url + ".png")[0].startswith(b"\x89PNG")
    assert (home / ".local/share/rubric/instance/rubric.sqlite").is_file()


def test_the_terminal_knows_the_shipped_model_too(home, environment):
    text = run(environment, home, "-m", "generate", "Once upon a time", "--max-new-tokens", "3", "--seed", "1")
    assert text.startswith("Once upon a time")
