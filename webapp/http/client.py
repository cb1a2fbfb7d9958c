"""Whether the client of a request is still there. A server learns of its leaving only at the second write after it."""

import select

from flask import request

GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)  # the last is Linux's


class Client:
    """The connection of a request, as gunicorn gives it; of other servers nothing is known, and their clients stay."""

    def __init__(self, socket=None):
        self._poll = None
        if socket is not None:
            self._poll = select.poll()
            self._poll.register(socket, GONE)

    @classmethod
    def of_request(cls) -> "Client":
        """That of the request that is being answered."""
        return cls(request.environ.get("gunicorn.socket"))

    def has_left(self) -> bool:
        """Whether it has closed the connection; asks, and does not wait."""
        return self._poll is not None and bool(self._poll.poll(0))
