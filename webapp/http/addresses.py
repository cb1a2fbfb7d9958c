"""Where a request comes from: told apart without being kept.

What is kept of an address is a keyed hash, which nobody can turn back without the server's secret. Which address that is,
X-Forwarded-For says where TRUSTED_PROXIES lets it, and the connection elsewhere.
"""

from ipaddress import IPv6Address, ip_address

from flask import request

from webapp.http.visitors import keyed_hash

HOUSEHOLD = 8  # leading bytes of an IPv6 address that belong to one household or one machine; IPv4 has four


def hash_of(address: str) -> str | None:
    """The keyed hash of an address, 64 hex digits; None for what is none, such as a socket's file.

    Of an IPv6 address its network counts: whoever has one of its addresses has them all.
    """
    try:
        found = ip_address(address.strip())
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    return keyed_hash(b"address " + found.packed[:HOUSEHOLD])


def asking() -> str | None:
    """That of whoever sent this request."""
    return hash_of(request.remote_addr or "")
