"""`rubric COMMAND` where it is installed, `python -m webapp COMMAND` in a checkout: serve the page, and look after it."""

import argparse
import os
import sys
from pathlib import Path

from generate import N_, Help, RawHelp, Refusal, gettext, languages
from webapp import create_app
from webapp.commands import backup, keys, operator_link, password, serve

COMMANDS = {
    "serve": (serve.MEANING, serve.describe, serve.run),
    "keys": (keys.MEANING, keys.describe, keys.run),
    "password": (password.MEANING, password.describe, password.run),
    "operator-link": (operator_link.MEANING, operator_link.describe, operator_link.run),
    "backup": (N_("all that is stored in one file; servers may go on writing"), backup.describe, backup.run_backup),
    "restore": (N_("what a backup holds, into an empty database"), backup.describe, backup.run_restore),
}
PROGRAMS = {  # each with a help of its own
    "generate": N_("write on the terminal, and download models"),
    "convert": N_("old checkpoints into models"),
    "finetune": N_("train a model on your own text"),
}


def main(given: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    given = sys.argv[1:] if given is None else given
    if given and given[0] in PROGRAMS:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", *given])
    languages.speak_as_asked()
    asked = command_line().parse_args(given)
    try:
        with create_app().app_context():
            asked.run(asked)
    except Refusal as refusal:
        print(f"rubric: {refusal}", file=sys.stderr)
        return 1
    return 0


def command_line() -> argparse.ArgumentParser:
    """The commands and what each takes."""
    name = "rubric" if Path(sys.argv[0]).stem == "rubric" else "python -m webapp"
    others = "".join(f"\n  {program:10} {gettext(meaning)}" for program, meaning in PROGRAMS.items())
    parser = argparse.ArgumentParser(
        name,
        description="Serve the page, and look after it.",
        epilog=gettext("also, each with --help:{programs}", programs=others),
        formatter_class=RawHelp,
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command, (meaning, describe, run) in COMMANDS.items():
        one = parsers.add_parser(command, help=meaning, formatter_class=Help)
        describe(one)
        one.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
