"""The words of tus, the protocol for uploads that go on after a cut: what stands in its headers.

Source: tus.io/protocols/resumable-upload, version 1.0.0, with the extensions creation, termination and expiration.
"""

import base64
import binascii
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import PurePosixPath

from webapp.uploads.refusals import NoPiece, Unspoken, UploadRefusal
from webapp.uploads.store import LARGEST, Upload

VERSION = "1.0.0"
PIECE = "application/offset+octet-stream"
ABILITIES = {
    "Tus-Version": VERSION,
    "Tus-Extension": "creation,expiration,termination",
    "Tus-Max-Size": str(LARGEST),
}
LONGEST = 200  # bytes of a file's name
DIGITS = 15


def require_version(headers: Mapping[str, str]) -> None:
    """Raise Unspoken where another version of the protocol is spoken, or none."""
    given = headers.get("Tus-Resumable")
    if given != VERSION:
        raise Unspoken(
            "Uploads speak tus {version} here, and the request says {given!r:.40}.", version=VERSION, given=given
        )


def whole_number(headers: Mapping[str, str], name: str) -> int:
    """A header that must be a whole number; raises UploadRefusal."""
    text = headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise UploadRefusal("{name} must be a whole number of bytes, not {text!r:.40}.", name=name, text=text)
    return int(text)


def require_piece(headers: Mapping[str, str]) -> None:
    """Raise NoPiece where what is sent is no piece of a file."""
    given = headers.get("Content-Type", "")
    if given != PIECE:
        raise NoPiece("Content-Type must be {wanted}, not {given!r:.60}.", wanted=PIECE, given=given)


def file_name(headers: Mapping[str, str]) -> str:
    """The `filename` of Upload-Metadata, without the folders before it; raises UploadRefusal for what no file is
    called."""
    for pair in headers.get("Upload-Metadata", "").split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            return plain_name(value)
    raise UploadRefusal("Upload-Metadata must hold the filename.")


def plain_name(encoded: str) -> str:
    """A file's name from base64; raises UploadRefusal."""
    try:
        told = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise UploadRefusal("The filename must be UTF-8 in base64, not {text!r:.60}.", text=encoded) from None
    name = PurePosixPath(told.replace("\\", "/")).name
    if name in ("", ".", "..") or not name.isprintable() or len(name.encode()) > LONGEST:
        raise UploadRefusal(
            "The filename must be of 1 to {most} bytes that can be printed, not {text!r:.60}.",
            most=LONGEST,
            text=told,
        )
    return name


def told_of(upload: Upload, offset: int, keep: float) -> dict[str, str]:
    """The headers that say how far an upload is, and how long it stays."""
    return {
        "Upload-Offset": str(offset),
        "Upload-Length": str(upload.length),
        "Upload-Expires": formatdate(upload.expires(keep), usegmt=True),
    }
