"""The prompts that a person types, gives as an argument, or sends through a pipe."""

import argparse
import sys
from collections.abc import Iterator

from generate.errors import Refusal
from generate.languages import gettext
from generate.text.incoming import decode_text, plain_text

PROMPT = "prompt> "


def prompts(args: argparse.Namespace) -> Iterator[str | bytes]:
    """What is to be continued, as it came: one prompt, or with --interactive as many as come, line by line."""
    if args.interactive:
        while (line := ask()) is not None:
            yield line
    elif args.unconditional:
        yield ""
    elif args.prompt is not None:
        yield args.prompt
    elif sys.stdin.isatty():
        print(gettext("Type a prompt, then Ctrl-D:"), file=sys.stderr)
        yield without_last_newline(sys.stdin.read())
    else:
        yield sys.stdin.buffer.read()


def ask() -> str | bytes | None:
    """The next line, typed at a terminal (str) or piped in (bytes); None at the end."""
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline() or None
    try:
        return input(PROMPT)
    except EOFError:
        return None


def as_prompt(typed: str | bytes, limit: int) -> str:
    """The prompt as text; raises Refusal for what is no text, or has more than `limit` bytes of UTF-8.

    Of what comes through a pipe the newline that ends it is taken off: `echo` and editors put it there, and a model that
    reads it begins another line.
    """
    if isinstance(typed, bytes):
        prompt = without_last_newline(decode_text(typed, gettext("standard input")))
    elif typed.isascii() or not any("\udc80" <= character <= "\udcff" for character in typed):
        prompt = plain_text(typed)
    else:  # so Python hands on bytes of a command line or a terminal that are no UTF-8
        prompt = decode_text(typed.encode("utf-8", "surrogateescape"), "prompt")
    size = len(prompt.encode("utf-8", "replace"))
    if size > limit:
        raise Refusal("prompt may have at most {limit:,} bytes, not {size:,}.", "prompt", limit=limit, size=size)
    return prompt


def without_last_newline(text: str) -> str:
    """The text without the one newline that ends it, if any."""
    return text.removesuffix("\n")
