"""Escapes that a person types where a line holds no newline or tab itself."""

import re

MEANT = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


def unescape(typed: str, known: str = "nt") -> str:
    r"""Turn a typed `\\`, and a backslash before each of the letters `known`, into what they mean; all else stays as it is."""
    return re.sub(rf"\\([{known}\\])", lambda found: MEANT[found[1]], typed)
