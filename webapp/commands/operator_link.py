"""`operator-link`: another link for the operator, for another browser or when the first was lost."""

import argparse
import sys

from generate import N_, Refusal, gettext
from webapp.http.operator import keys, link_for

MEANING = N_("a link that makes a browser the operator's; it works once")


def describe(parser: argparse.ArgumentParser) -> None:
    """It takes nothing."""


def run(asked: argparse.Namespace) -> None:
    """Print the link; needs an app context, raises Refusal."""
    try:
        print(link_for(keys().new_link_key()))
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=error.filename, reason=error.strerror) from None
    told = N_("It works once, within a day, and earlier ones that nobody opened do so no longer.")
    print(gettext(told), file=sys.stderr)
