"""What cannot be done with an upload, by what HTTP calls it."""

from generate import Refusal


class UploadRefusal(Refusal):
    """What cannot be done with an upload. `status` is what HTTP calls it, as tus says."""

    status = 400


class Missing(UploadRefusal):
    """There is no such upload, or no more."""

    status = 404


class Misplaced(UploadRefusal):
    """A piece does not begin where the upload has come to."""

    status = 409


class TooMuch(UploadRefusal):
    """There is no room for it, or not for so much of it."""

    status = 413


class NotStored(UploadRefusal):
    """The disk does not take it."""

    status = 507


class NotReady(UploadRefusal):
    """Nothing can be made of these uploads."""

    status = 422


class Unspoken(UploadRefusal):
    """Another version of the protocol than ours."""

    status = 412


class NoPiece(UploadRefusal):
    """What was sent is no piece of a file."""

    status = 415
