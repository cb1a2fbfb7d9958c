"""`serve`: bring the tables up to date, and become the server."""

import argparse
import os
import sys

from flask_migrate import upgrade

from generate import N_, files

MEANING = N_("serve the page")


def describe(parser: argparse.ArgumentParser) -> None:
    """What it takes; the server's settings are environment variables, and these two are as well."""
    parser.add_argument("--host", help="address to listen on; 0.0.0.0 lets friends on the same network in")
    parser.add_argument("--port", help="port to listen on")


def run(asked: argparse.Namespace) -> None:
    """Does not return; needs an app context, raises Refusal."""
    given = {"HOST": asked.host, "PORT": asked.port}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    upgrade()
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", str(files.ROOT / "gunicorn.conf.py")]
    sys.stdout.flush()
    os.execv(sys.executable, gunicorn)
