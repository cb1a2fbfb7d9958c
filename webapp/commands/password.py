"""`password`: who visits has to give one; `password --off`: nobody has to any more."""

import argparse
import getpass
import sys

from flask import current_app

from generate import N_, Refusal, gettext
from webapp.http import private

MEANING = N_("a password without which nothing is shown")


def describe(parser: argparse.ArgumentParser) -> None:
    """What it takes; the password itself is asked for, or read from standard input."""
    parser.add_argument("--off", action="store_true", help="let everybody in again")


def run(asked: argparse.Namespace) -> None:
    """Store it, or remove it; needs an app context, raises Refusal."""
    try:
        change(asked.off)
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=error.filename, reason=error.strerror) from None
    if private.settings()["RUBRIC_PASSWORD"]:
        print(gettext("RUBRIC_PASSWORD is set, and comes before it."), file=sys.stderr)


def change(off: bool) -> None:
    """Do it; raises Refusal and OSError."""
    if off:
        there = private.remove(current_app)
        print(gettext("Everybody may come in.") if there else gettext("There was no password."))
        return
    private.store(current_app, given())
    print(gettext("From now on nothing is shown without it. Who had given another has to give this one."))


def given() -> str:
    """The password: typed twice unseen at a terminal, else a line of standard input. Raises Refusal where the two differ."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass(gettext("Password: "))
    if getpass.getpass(gettext("Once more: ")) != first:
        raise Refusal("The two are not the same; nothing was changed.")
    return first
