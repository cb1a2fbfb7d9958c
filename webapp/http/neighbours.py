"""Under which address friends on the same network can open a page whose own address works on this computer alone."""

from urllib.parse import urlsplit

from flask import request

from generate import address_on_the_network
from webapp.http.request import settings

HERE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
ALL = ("0.0.0.0", "::")


def network_link(link: dict) -> dict | None:
    """The `url` for neighbours of a `link` as `link_to` gives it, and whether it is `open`: the server listens there.

    None where the link works elsewhere too, where this computer has no address, and for whoever sits at another computer.
    """
    if not link["local"] or request.remote_addr not in HERE:
        return None
    address = address_on_the_network()
    if address is None:
        return None
    url = f"http://{address}:{settings()['PORT']}{urlsplit(link['url']).path}"
    return {"url": url, "open": settings()["HOST"] in ALL}


def link_for_phones(link: dict) -> str:
    """What a code for another phone's camera says: the link, or where that works here alone, its neighbours' address."""
    near = network_link(link)
    return near["url"] if near and near["open"] else link["url"]
