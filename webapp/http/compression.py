"""Answers of text are sent by gzip to browsers that accept it; streams that are shown as they come are not.

Where a page holds secrets of a visitor beside words that others can put into it, the size of the compressed whole would
tell of them (BREACH): a visitor's own list goes out as it is. A form's nonce tells nothing: each answer has another.
"""

import gzip
import zlib
from collections.abc import Iterator

from flask import Flask, Response, request

TEXT = {"text/html", "text/css", "text/plain", "text/javascript", "application/javascript", "application/json"}
TEXT |= {"image/svg+xml"}
LEAST = 500  # bytes; less is not worth it
LEVEL = 6
OWN = "/runs"  # addresses that show what belongs to one visitor


def register(app: Flask) -> None:
    """Compress what is worth it."""
    app.after_request(compress)


def compress(response: Response) -> Response:
    """The same answer, by gzip if that may be. Whatever its form, caches are told that it depends on the request."""
    if response.mimetype not in TEXT or "Content-Encoding" in response.headers or request.path.startswith(OWN):
        return response
    streamed = response.is_streamed and not response.direct_passthrough  # direct: a file
    if streamed and response.mimetype != "application/json":
        return response
    response.vary.add("Accept-Encoding")
    weaken(response)
    if response.status_code not in (200, 404, 410, 422) or not request.accept_encodings["gzip"]:
        return response
    if streamed:
        response.response = packed(response.response)
    else:
        response.direct_passthrough = False
        whole = response.get_data()
        if len(whole) < LEAST:
            return response
        response.set_data(gzip.compress(whole, LEVEL, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    response.headers.pop("Accept-Ranges", None)
    return response


def weaken(response: Response) -> None:
    """An entity tag means the text, in whatever form it goes out."""
    tag, is_weak = response.get_etag()
    if tag is not None and not is_weak:
        response.set_etag(tag, weak=True)


def packed(parts: Iterator) -> Iterator[bytes]:
    """The same stream by gzip."""
    packer = zlib.compressobj(LEVEL, wbits=31)
    try:
        for part in parts:
            if data := packer.compress(part.encode() if isinstance(part, str) else part):
                yield data
        yield packer.flush()
    finally:
        if hasattr(parts, "close"):
            parts.close()
