"""What holds of the house itself: its star of imports, its README, its settings."""

import ast
import json
import os
import re
import subprocess
import sys
from string import Formatter

import pytest
from conftest import ROOT

from generate import SETTINGS, Refusal, read_settings

OURS = ("generate", "webapp", "convert", "finetune")
CATALOGUED = ("webapp", "generate", "convert", "finetune")  # where every refusal is a fixed message with named values


def imports(package: str):
    """All (file, imported module) of a package, wherever in a file they stand."""
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield file, node.module


def kinds_of_refusals() -> set[str]:
    """The names of Refusal and all classes of ours that are made from it."""
    kinds = {"Refusal"}
    for file in (file for package in OURS for file in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and kinds & {ast.unparse(base).split(".")[-1] for base in node.bases}:
                kinds.add(node.name)
    return kinds


def messages(node: ast.expr) -> list[str | None]:
    """The text of a literal, or of both in `"a" if x else "b"`; None for whatever is put together."""
    if isinstance(node, ast.IfExp):
        return messages(node.body) + messages(node.orelse)
    return [node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None]


def wrong_refusals(code: str, kinds: set[str]) -> list[str]:
    """The calls whose message is no literal, or has other placeholders than the values that are given."""
    wrong = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in kinds:
            values = {keyword.arg for keyword in node.keywords} - {"field", "retry_after"}
            for message in messages(node.args[0]) if node.args else [None]:
                if message is None or {name for _, name, _, _ in Formatter().parse(message)} - {None} != values:
                    wrong.append(f"line {node.lineno}: {ast.unparse(node)}")
    return wrong


def test_the_engine_imports_none_of_ours_and_no_flask():
    for file, module in imports("generate"):
        assert module.split(".")[0] not in ("webapp", "convert", "finetune", "flask", "sqlalchemy"), file


def test_the_page_reaches_the_engine_by_its_public_names_alone():
    for file, module in imports("webapp"):
        assert not module.startswith("generate."), f"{file} imports {module}"
        assert module.split(".")[0] not in ("torch", "transformers", "convert", "finetune"), file


@pytest.mark.parametrize("package", ["convert", "finetune"])
def test_the_makers_of_models_meet_only_in_their_folders(package):
    other = {"convert": "finetune", "finetune": "convert"}[package]
    for file, module in imports(package):
        assert not module.startswith("generate."), f"{file} imports {module}"
        assert module.split(".")[0] not in ("webapp", "flask", other), f"{file} imports {module}"


@pytest.mark.parametrize("package", CATALOGUED)
def test_a_refusal_is_a_fixed_message_with_named_values(package):
    kinds = kinds_of_refusals() | {"Problem", "Broken"}
    assert {"Refusal", "Busy", "Damaged"} <= kinds
    hand_on = {ROOT / "generate/errors.py", ROOT / "generate/remote/failures.py"}
    for file in sorted({*(ROOT / package).rglob("*.py")} - hand_on):
        assert wrong_refusals(file.read_text(), kinds) == [], file


@pytest.mark.parametrize(
    ("code", "is_right"),
    [
        ("Refusal('No file was given.')", True),
        ("generate.Refusal('{name!r:.80} of {limit:,}', 'name', name=a.name, limit=9)", True),
        ("Busy('{waiting} are waiting', retry_after=5, waiting=n)", True),
        ("Refusal('There is no {path}.' if x else '{path} is empty.', path=f'{a}/{b}')", True),
        ("Refusal(f'There is no {path}.')", False),
        ("Refusal('There is no %s.' % path)", False),
        ("Refusal('There is no {}.'.format(path))", False),
        ("Refusal('There is no ' + path)", False),
        ("Refusal(' '.join(words))", False),
        ("Refusal(sentence)", False),
        ("Refusal('There is no {path}.' if x else f'{path} is empty.', path=path)", False),
        ("Refusal('There is no {path}.')", False),
        ("Refusal('There is no file.', path=path)", False),
        ("Refusal('There is no {path.name}.', path=path)", False),
        ("Refusal('There is no {path}.', **values)", False),
        ("generate.Busy(f'{waiting} are waiting')", False),
    ],
)
def test_a_refusal_that_is_put_together_is_found(code, is_right):
    assert (wrong_refusals(code, {"Refusal", "Busy"}) == []) is is_right


# Tests of the engine's rooms; all others know its public names alone.
OF_THE_ENGINE = {
    *(
        "banned",
        "compiled",
        "ending",
        "folder",
        "folder_over_time",
        "graphs",
        "int8",
        "queue",
        "options",
        "precision",
        "prefixes",
    ),
    *(
        "reading",
        "recovery",
        "sentences",
        "loaded_models",
        "sampling",
        "samplers",
        "sampler_runs",
        "score",
        "judging",
        "shapes",
        "fake_engine",
        "yielding",
        "remote_asking",
        "remote_faults",
        "remote_kept",
    ),
}
PRIVATE = {  # what tests look into all the same
    ("conftest", "_loaded_models"),
    ("engines", "_wake"),
    ("replicas", "_pool"),
    ("replicas", "_replicas"),
    ("test_engine", "_take_asked"),
    ("test_graphs", "_graphs"),
    ("test_int8", "_is_mkldnn_bf16_supported"),  # PyTorch names them so
    ("test_int8", "_reorder_linear_weight"),
    ("test_prefixes", "_texts"),
}


def nodes_of_tests():
    """(name, node) of everything in the files of tests."""
    for file in sorted((ROOT / "tests").glob("*.py")):
        yield from ((file.stem, node) for node in ast.walk(ast.parse(file.read_text())))


def test_only_tests_of_the_engine_import_its_modules():
    for file, module in imports("tests"):
        inside = module.startswith("generate.") and module != "generate.__main__"
        assert not inside or file.stem.removeprefix("test_") in OF_THE_ENGINE, f"{file} imports {module}"


def test_tests_look_into_nothing_private_but_what_is_listed():
    found = set()
    for file, node in nodes_of_tests():
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            found.add((file, node.attr))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            found |= {(file, part.value) for part in node.args[1:2] if isinstance(part, ast.Constant)}
    public = {"_asdict", "_fields", "_make", "_replace"}  # of named tuples, whose fields may have any other name
    assert {(file, name) for file, name in found if re.match("_[^_]", name) and name not in public} == PRIVATE


def test_tests_wait_for_conditions_and_do_not_sleep():
    sleeps = {
        file
        for file, node in nodes_of_tests()
        if isinstance(node, ast.Call) and re.search(r"(sleep|wait_for_timeout)$", ast.unparse(node.func))
    }
    people = {"crowd", "town", "test_sheet_editor", "test_sheet_faults"}
    assert sleeps == {"waiting", "slow_job"} | people, (
        "the one that waits, a program that takes long, and people who pause"
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_tests_have_the_same_names_whatever_the_time_and_the_order_of_sets():
    """Else two workers of one run collect different tests, and all of it fails."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    named = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        named.append([line for line in done.stdout.splitlines() if "::" in line])
    assert named[0] == named[1]
    assert len(named[0]) > 1000


def test_training_without_its_packages_says_how_to_get_them():
    code = (
        "import sys; sys.modules['peft'] = sys.modules['accelerate'] = None\n"
        "from finetune.__main__ import main; sys.exit(main(['a.txt', '--model', 'storyteller', '--out', 'models/b']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "finetune: accelerate is not installed; `make finetune` installs what training needs.\n"


def test_every_public_name_of_the_engine_exists():
    import generate

    assert all(getattr(generate, name) is not None for name in generate.__all__)
    with pytest.raises(AttributeError):
        generate.nonsense  # noqa: B018


@pytest.mark.long
def test_the_page_without_an_engine_needs_no_torch():
    code = "import sys, webapp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.long
def test_a_server_whose_runs_others_write_needs_no_torch(tmp_path, models):
    """What requirements-web.txt leaves out cannot be imported here; pages, runs and the API answer all the same."""
    code = (
        "import re, sys\n"
        "left = re.findall('(?m)^([a-z-]+)==', open('requirements.txt').read())\n"
        "sys.modules |= dict.fromkeys(name.replace('-', '_') for name in left)\n"
        "import wsgi\n"
        "client = wsgi.app.test_client()\n"
        "answers = [client.get(path).status_code for path in ('/', '/v1/models', '/runs', '/busy', '/readyz')]\n"
        "run = client.post('/runs', data={'prompt': 'the', 'model': 'tiny'})\n"
        "answers += [run.status_code, client.get(run.headers['Location'] + '.json').status_code]\n"
        "wsgi.app.extensions['rubric'].close()\n"
        "assert sys.modules['torch'] is None\n"
        "sys.exit(0 if answers == [200, 200, 200, 200, 503, 303, 200] else str(answers))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUBRIC_")}
    environment |= {"RUBRIC_ENGINE": "http://127.0.0.1:9", "RUBRIC_INSTANCE": str(tmp_path)}
    environment |= {"RUBRIC_MODELS": str(models)}
    for arguments in (["-m", "flask", "--app", "webapp", "db", "upgrade"], ["-c", code]):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_readme_lists_every_setting_with_its_default_and_meaning():
    readme = (ROOT / "README.md").read_text()
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        assert f"| `{setting.name}` | {default} | {setting.meaning} |" in readme


def test_the_readme_names_only_commands_that_exist():
    readme = (ROOT / "README.md").read_text()
    listed = subprocess.run(["make", "help"], cwd="/", capture_output=True, text=True, check=False)
    assert listed.returncode != 0, "make alone finds no Makefile elsewhere; -C does"
    listed = subprocess.run(
        ["make", "-C", str(ROOT), "help"], cwd="/", capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"^([a-z-]+) ", listed, re.M))
    assert {"run", "test", "test-fast", "test-long", "soak", "bench", "screenshot"} <= targets
    assert set(re.findall(r"`?make (?!-)([a-z-]+)", readme)) <= targets


@pytest.mark.parametrize("name", [file.name for file in sorted(ROOT.glob("requirements*.txt"))])
def test_each_dependency_is_pinned_and_has_a_reason(name):
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r")):
            assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ +# .{10,}", line), line


def test_npm_packages_are_pinned_and_no_lock_names_a_registry():
    package = json.loads((ROOT / "package.json").read_text())
    wanted = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"[0-9.]+", version) for version in wanted.values())
    assert "resolved" not in (ROOT / "package-lock.json").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "0"), ("PORT", "x"), ("RUBRIC_DEVICE", "tpu"), ("RUBRIC_PRECISION", "int7"), ("RUBRIC_MAX_ROWS", "-1")],
)
def test_a_wrong_setting_is_named(name, value):
    with pytest.raises(Refusal, match=f"{name} is '{value}'"):
        read_settings({name: value})
