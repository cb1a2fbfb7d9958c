"""The addresses of uploads, as tus 1.0.0 has them (webapp/uploads/tus.py says where that stands)."""

from collections.abc import Iterator
from contextlib import suppress

from flask import Blueprint, Response, make_response, request, url_for
from gunicorn.http.errors import ParseException

from webapp.http.errors import refused
from webapp.state import state
from webapp.uploads import tus
from webapp.uploads.refusals import UploadRefusal
from webapp.uploads.store import LARGEST

BLOCK = 256 * 1024  # bytes of a file in memory at a time

blueprint = Blueprint("uploads", __name__, url_prefix="/workshop/uploads")


@blueprint.errorhandler(UploadRefusal)
def refuse(refusal: UploadRefusal) -> Response:
    """A refusal in one sentence, and the version that is spoken here."""
    return spoken(make_response(refused(refusal)))


def spoken(answer: Response) -> Response:
    """The same answer with the headers that each must have."""
    answer.headers["Tus-Resumable"] = tus.VERSION
    if answer.status_code == 412:
        answer.headers["Tus-Version"] = tus.VERSION
    return answer


@blueprint.route("", methods=["OPTIONS"], provide_automatic_options=False)
def abilities():
    """What of the protocol is spoken here."""
    return spoken(Response(status=204, headers=tus.ABILITIES))


@blueprint.post("")
def create():
    """Begin an upload: a file's length and name, without a byte of it."""
    tus.require_version(request.headers)
    length = tus.whole_number(request.headers, "Upload-Length")
    uploads = state().uploads
    upload = uploads.create(tus.file_name(request.headers), length)
    headers = tus.told_of(upload, 0, uploads.keep) | {"Location": url_for("uploads.piece", upload_id=upload.id)}
    return spoken(Response(status=201, headers=headers))


@blueprint.route("/<upload_id>", methods=["HEAD"])
def ask(upload_id: str):
    """How far an upload has come."""
    tus.require_version(request.headers)
    uploads = state().uploads
    upload = uploads.find(upload_id)
    return spoken(Response(status=200, headers=tus.told_of(upload, uploads.ask(upload), uploads.keep)))


@blueprint.patch("/<upload_id>")
def piece(upload_id: str):
    """Take in a piece, as far as it arrives."""
    tus.require_version(request.headers)
    tus.require_piece(request.headers)
    uploads = state().uploads
    upload, offset = uploads.find(upload_id), tus.whole_number(request.headers, "Upload-Offset")
    request.max_content_length = 2 * LARGEST  # the bound is the upload's own length
    here = uploads.append(upload, offset, blocks(), request.content_length or 0)
    return spoken(Response(status=204, headers=tus.told_of(upload, here, uploads.keep)))


def blocks() -> Iterator[bytes]:
    """What comes of the request's body; it ends where the connection does, or when nothing more comes."""
    with suppress(OSError, ParseException):
        while block := request.stream.read(BLOCK):
            yield block


@blueprint.delete("/<upload_id>")
def remove(upload_id: str):
    """Give an upload up."""
    tus.require_version(request.headers)
    state().uploads.remove(state().uploads.find(upload_id))
    return spoken(Response(status=204))
