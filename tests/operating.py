"""The operator of a test's server: by the link that it printed, or without opening one."""

import re
from pathlib import Path

from webapp.http.operator import COOKIE, Keys


def operator_cookie(instance: Path) -> tuple[str, str]:
    """Name and value of a cookie that a server with this instance folder takes for its operator's."""
    keys = Keys(instance)
    return COOKIE, keys.exchange(keys.new_link_key())


def link_of(server) -> str:
    """What a server prints at its first start."""
    return re.search(r"http://\S+/operator\?key=\S+", server.log.read_text())[0]
