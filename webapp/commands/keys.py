"""`keys add NAME`, `revoke NAME`, `list`: the keys of the API."""

import argparse
import sys

from generate import N_, gettext
from webapp.api.keys import add_key, list_keys, revoke_key
from webapp.runs.tables import check_tables

MEANING = N_("the keys of the API")


def describe(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    does = parser.add_subparsers(required=True, dest="do", metavar="add | list | revoke")
    for name, meaning in (("add", N_("make a key; it is printed once")), ("revoke", N_("let a key be good no longer"))):
        does.add_parser(name, help=meaning).add_argument("name", metavar="NAME")
    does.add_parser("list", help="the names of all keys")


def run(asked: argparse.Namespace) -> None:
    """One of the three; needs an app context, raises Refusal."""
    check_tables()
    if asked.do == "add":
        print(add_key(asked.name))
        told = N_("This is the only time that it is shown. Clients send it as Authorization: Bearer KEY.")
        print(gettext(told), file=sys.stderr)
    elif asked.do == "revoke":
        revoke_key(asked.name)
    else:
        for key in list_keys():
            print(f"{key.created:%Y-%m-%d}  {key.name}")
