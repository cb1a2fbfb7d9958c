"""Parsers of settings: each makes a value of a text, or raises Refusal with the reason, as in "must be a folder"."""

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from generate.errors import Refusal

WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)  # of a host
PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/*", re.ASCII)
DATABASE = re.compile(r"[a-z0-9]+(\+[a-z0-9_]+)?://", re.ASCII)
SHORTEST, LONGEST = 8, 200  # characters of a password
KEY = re.compile(r"[!-~]*", re.ASCII)
MOST_ADDRESSES = 64
PORTS = {"http": 80, "https": 443}


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers within limits."""

    def parse(text: str) -> int:
        if not WHOLE.fullmatch(text):
            raise Refusal("must be a whole number from {low} to {high}", low=low, high=high)
        if not (len(text) <= 12 and low <= int(text) <= high):  # Python reads no number of thousands of digits
            raise Refusal("must be from {low} to {high}", low=low, high=high)
        return int(text)

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise Refusal("must be one of {choices}", choices=", ".join(choices))
        return text

    return parse


def password(text: str) -> str:
    """A password, or nothing."""
    if text and not (SHORTEST <= len(text) <= LONGEST):
        raise Refusal("must have from {low} to {high} characters", low=SHORTEST, high=LONGEST)
    return text


def folder(text: str) -> str:
    """A folder, which need not be there yet."""
    if "\0" in text or (text and Path(text).exists() and not Path(text).is_dir()):
        raise Refusal("must be a folder")
    return text


def host(text: str) -> str:
    """A name or an address to listen on, with no port; an IPv6 address may stand in brackets."""
    found = text.removeprefix("[").removesuffix("]") if text.startswith("[") else text
    with suppress(ValueError):
        return str(ip_address(found))
    if not NAME.fullmatch(text):
        raise Refusal("must be an address such as 0.0.0.0 or a host name, without a port")
    return text


def rate(text: str) -> str:
    """How many in what time, in the words of the `limits` library."""
    from limits import parse_many  # a terminal that only generates need not wait for it

    try:
        limits = parse_many(text)
    except ValueError:
        raise Refusal("must be a number of runs in a time, such as `60 per minute`") from None
    if not all(limit.amount for limit in limits):
        raise Refusal("must let at least one run be started")
    return text


def database(text: str) -> str:
    """An address for SQLAlchemy, which judges it when the server starts; here only what its form says."""
    if text and not DATABASE.match(text):
        raise Refusal("must be an address such as postgresql://user:password@host/name")
    return text


def public_url(text: str) -> str:
    """An http address without its last slash, of a host and perhaps a path."""
    if not text:
        return text
    origin_of(text)
    parts = urlsplit(text)
    if "@" in parts.netloc or not text.isprintable() or any(c in text for c in " ?#"):
        raise Refusal("must be a host and perhaps a path, without a user, ? or #")
    if not PATH.fullmatch(parts.path) or {".", ".."} & set(parts.path.split("/")):
        raise Refusal("its path may hold letters, digits, ., _, ~ and - between single slashes")
    return parts.geturl().rstrip("/")  # its scheme in lower case


def addresses(text: str) -> tuple[str, ...]:
    """Addresses of engines, between commas, each without its last slash."""
    found = tuple(dict.fromkeys(public_url(one.strip()) for one in text.split(",") if one.strip()))
    if len(found) > MOST_ADDRESSES:
        raise Refusal("may name {most} addresses at the most, not {given}", most=MOST_ADDRESSES, given=len(found))
    return found


def key(text: str) -> str:
    """What stands behind `Bearer` in a header."""
    if not KEY.fullmatch(text):
        raise Refusal("may hold what a header can: letters, digits and signs of ASCII, and no blank")
    return text


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address, in the one form in which two of them can be compared.

    The host is in lower case and ASCII (UTS #46), an IP address as short as can be, a default port filled in. Raises
    Refusal for what has none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refusal("it is no address") from None
    if parts.scheme not in PORTS:
        raise Refusal("must begin with http:// or https://")
    name = host_of(parts)
    if not (NAME.fullmatch(name) or ":" in name) or port == 0:
        raise Refusal("must name a host, and a port from 1 to 65535 if any")
    return parts.scheme, name, port or PORTS[parts.scheme]


def host_of(parts: SplitResult) -> str:
    """The host of an address in lower case and ASCII, "" for none; raises Refusal."""
    name = parts.hostname or ""
    with suppress(ValueError):
        return str(ip_address(name))
    if name.isascii():
        return name
    import idna  # only where a name needs it

    try:
        return idna.encode(name, uts46=True).decode()
    except UnicodeError:
        raise Refusal("its host is no name that a browser can open") from None
