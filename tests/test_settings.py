"""A setting that is wrong is named when the server starts, in one sentence; a secret one without its value."""

import os
import subprocess
import sys

import pytest
from browser import free_port
from conftest import ROOT
from flask_migrate import upgrade

from generate import Refusal, read_settings
from webapp import create_app
from webapp.runs.tables import check_tables, db

WRONG = [
    ("RUBRIC_RATE_LIMIT", "1 pr hour", "must be a number of runs in a time"),
    ("RUBRIC_RATE_LIMIT", "many", "must be a number of runs in a time"),
    ("RUBRIC_RATE_LIMIT", "-1 per minute", "must be a number of runs in a time"),
    ("RUBRIC_RATE_LIMIT", "60 per minute; 0 per day", "must let at least one run be started"),
    ("RUBRIC_KEEP_DAYS", "1_0", "must be a whole number"),
    ("RUBRIC_GRACE", "３０", "must be a whole number"),
    ("RUBRIC_MODELS", __file__, "must be a folder"),
    ("RUBRIC_INSTANCE", __file__, "must be a folder"),
    ("HOST", "http://127.0.0.1", "must be an address"),
    ("HOST", "127.0.0.1:8000", "must be an address"),
    ("HOST", "my host", "must be an address"),
    ("PUBLIC_URL", "rubric.example", "must begin with http:// or https://"),
    ("PUBLIC_URL", "ftp://rubric.example", "must begin with http:// or https://"),
    ("PUBLIC_URL", "http://[::1", "it is no address"),
    ("PUBLIC_URL", "http://", "must name a host"),
    ("PUBLIC_URL", "http://rubric.example:x", "it is no address"),
    ("PUBLIC_URL", "http://rubric.example:65536", "it is no address"),
    ("PUBLIC_URL", "http://rubric.example:0", "must name a host"),
    ("PUBLIC_URL", "https://ru bric.example", "must name a host"),
    ("PUBLIC_URL", "https://bü..cher.example", "its host is no name"),
    ("PUBLIC_URL", "https://me:secret@rubric.example", "must be a host and perhaps a path"),
    ("PUBLIC_URL", "https://rubric.example/?x", "must be a host and perhaps a path"),
    ("PUBLIC_URL", "https://rubric.example/#x", "must be a host and perhaps a path"),
    ("PUBLIC_URL", "https://rubric.example/a//b", "its path may hold"),
    ("PUBLIC_URL", "https://rubric.example/../b", "its path may hold"),
    ("PUBLIC_URL", "https://rubric.example/%2e", "its path may hold"),
]


@pytest.mark.parametrize(("name", "value", "reason"), WRONG)
def test_a_value_that_does_not_fit_is_refused_with_its_reason(name, value, reason):
    with pytest.raises(Refusal) as caught:
        read_settings({name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}: {reason}")


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("RUBRIC_RATE_LIMIT", "10/minute; 100/day", "10/minute; 100/day"),
        ("HOST", "::1", "::1"),
        ("HOST", "[::1]", "::1"),
        ("HOST", "localhost", "localhost"),
        ("PUBLIC_URL", "https://Bücher.example:8443/", "https://Bücher.example:8443"),
        ("PUBLIC_URL", "HTTPS://rubric.example", "https://rubric.example"),
        ("PUBLIC_URL", "http://[::1]:9000", "http://[::1]:9000"),
        ("PUBLIC_URL", "https://example.org/a/rubric/", "https://example.org/a/rubric"),
    ],
)
def test_a_value_that_fits_is_taken(name, value, read):
    assert read_settings({name: value})[name] == read


def test_an_address_of_a_database_is_refused_without_being_shown():
    with pytest.raises(Refusal) as caught:
        read_settings({"DATABASE_URL": "user:secret@host/name"})
    assert str(caught.value).startswith("DATABASE_URL: must be an address")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["what?mode=memory", "no#1", "100%25", "a:b@c", "file:x"])
def test_a_folder_keeps_the_database_whatever_its_name_holds(tmp_path, name):
    app = create_app(read_settings({"RUBRIC_INSTANCE": str(tmp_path / name), "DATABASE_URL": ""}))
    with app.app_context():
        upgrade()
        check_tables()
        db.engine.dispose()
    assert (tmp_path / name / "rubric.sqlite").stat().st_size > 0
    assert [folder.name for folder in tmp_path.iterdir()] == [name]


def started(tmp_path, *command, **settings) -> str:
    """What a command prints that does not start."""
    environment = {**os.environ, "PORT": str(free_port()), "RUBRIC_INSTANCE": str(tmp_path / "instance"), **settings}
    out = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert out.returncode != 0
    assert "Traceback" not in out.stderr + out.stdout
    return out.stderr


MIGRATE = ("flask", "--app", "webapp", "db", "upgrade")


@pytest.mark.long
@pytest.mark.whole
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"PUBLIC_URL": "http://[::1"}, "rubric: PUBLIC_URL is 'http://[::1': it is no address."),
        ({"PUBLIC_URL": "http://x.example/r"}, "rubric: PUBLIC_URL ends in /r, which is an address of Rubric's own"),
        ({"DATABASE_URL": "nosuch://u:secret@h/x"}, "rubric: DATABASE_URL cannot be used"),
        ({"DATABASE_URL": "mysql://u:secret@h/x"}, "rubric: DATABASE_URL cannot be used"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}, "rubric: The database does not answer"),
        ({"RUBRIC_INSTANCE": "/dev/null/x"}, "rubric: RUBRIC_INSTANCE is '/dev/null/x': "),
    ],
)
def test_what_make_run_does_first_says_what_is_wrong(tmp_path, settings, sentence):
    said = started(tmp_path, *MIGRATE, **settings)
    assert sentence in said
    assert "secret" not in said


@pytest.mark.whole
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"RUBRIC_RATE_LIMIT": "1 pr hour"}, "rubric: RUBRIC_RATE_LIMIT is '1 pr hour': must be a number of runs"),
        ({"RUBRIC_MODELS": "/no/such/folder"}, "rubric: RUBRIC_MODELS is '/no/such/folder': there is no such folder."),
    ],
)
def test_gunicorn_says_what_is_wrong(tmp_path, settings, sentence):
    assert sentence in started(tmp_path, "gunicorn", **settings)
