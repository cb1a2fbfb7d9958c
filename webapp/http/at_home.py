"""Who sits at the server: they may ask without a key, and are told what only they can mend.

A request is from this very machine, and from no web page but ours, where the server listens on loopback alone, the
connection comes from there, the request names it so, no proxy stands between, and no other site's page sent it. The
setting HOST says where the server should listen, and the connection where it does: gunicorn may have been told otherwise.
A socket in the file system is none of them, as it stands behind a proxy.

A proxy need not say that it is one: nginx as it comes names us the address that it asks, and tells nothing else. It is known
by HTTP/1.0, up to its version 1.29.6, and whatever its version by settings that speak of a proxy or of a public address.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import request
from werkzeug.datastructures import Headers

from webapp.http.request import settings
from webapp.http.security import is_ours

FORWARDED = ("Forwarded", "X-Real-IP", "Via")  # and whatever begins with X-Forwarded-


def at_home() -> bool:
    """Whether this request is from this machine, by no proxy, and from no web page of another site."""
    return (
        connects_at_home(request.environ)
        and is_loopback(host_of(request.headers.get("Host", "")))
        and not is_forwarded(request.environ, request.headers)
        and is_from_no_other_site(request.headers)
    )


def connects_at_home(environ: Mapping) -> bool:
    """Whether the server listens on loopback alone, is there for this machine, and the connection is from it."""
    ends = settings()["HOST"], environ["SERVER_NAME"], environ.get("REMOTE_ADDR") or ""
    return all(map(is_loopback, ends)) and not is_for_others()


def is_for_others() -> bool:
    """Whether the settings say that people from elsewhere come, by a proxy: all connections are then from this machine."""
    public = urlsplit(settings()["PUBLIC_URL"]).hostname
    return settings()["TRUSTED_PROXIES"] > 0 or (public is not None and not is_loopback(public))


def is_forwarded(environ: Mapping, headers: Headers) -> bool:
    """Whether a proxy has handed a request on, and said so or spoke as programs that ask by themselves do no longer."""
    return (
        environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        or any(name in headers for name in FORWARDED)
        or any(name.lower().startswith("x-forwarded-") for name, _ in headers)
    )


def is_from_no_other_site(headers: Headers) -> bool:
    """Whether no page of another site has sent a request."""
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
