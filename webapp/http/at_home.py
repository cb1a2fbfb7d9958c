"""Who sits at the server: they may ask without a key, and are told what only they can mend.

A request is from this very machine, and from no web page but ours, where the server listens on loopback alone, the request
names it so, no proxy stands between, and no other site's page sent it.
"""

from ipaddress import ip_address

from flask import request
from werkzeug.datastructures import Headers

from webapp.http.request import settings
from webapp.http.security import is_ours

FORWARDED = ("Forwarded", "X-Real-IP", "Via")  # and whatever begins with X-Forwarded-


def at_home() -> bool:
    """Whether this request is from this machine; for templates."""
    return is_at_home(request.headers)


def is_at_home(headers: Headers) -> bool:
    """Whether a request is from this machine, by no proxy, and from no web page of another site."""
    if not is_loopback(settings()["HOST"]) or not is_loopback(host_of(headers.get("Host", ""))):
        return False
    if any(name in headers for name in FORWARDED) or any(
        name.lower().startswith("x-forwarded-") for name, _ in headers
    ):
        return False
    origin = headers.get("Origin")
    if origin is None:
        return headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
    return is_ours(origin)


def host_of(authority: str) -> str:
    """The name in a Host header, without its port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def is_loopback(name: str) -> bool:
    """Whether a name or an address is this machine's own, which no other one can be reached by."""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"
