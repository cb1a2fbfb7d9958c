"""The operator of a test's server, without opening a link first."""

from pathlib import Path

from webapp.http.operator import COOKIE, Keys


def operator_cookie(instance: Path) -> tuple[str, str]:
    """Name and value of a cookie that a server with this instance folder takes for its operator's."""
    keys = Keys(instance)
    return COOKIE, keys.exchange(keys.new_link_key())
