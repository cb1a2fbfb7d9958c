"""Where this machine stands in its network."""

import socket
from ipaddress import ip_address


def address_on_the_network() -> str | None:
    """This machine's IPv4 address as its neighbours see it, None where it has none.

    A datagram socket finds the way out without sending a thing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation (RFC 5737)
        except OSError:
            return None
        found = ip_address(probe.getsockname()[0])
    return None if found.is_loopback or found.is_unspecified else str(found)
