"""How runs are related and why one is gone: strings, stored and compared like any other."""

from enum import StrEnum


class Relation(StrEnum):
    """How a run came from its parent."""

    CONTINUE = "continue"
    RETRY = "retry"
    EDIT = "edit"  # its text, or its prompt alone, was changed
    FORK = "fork"  # another token, or another try, from some place on
    PICK = "pick"  # one sample by itself
    BESIDE = "beside"  # the same prompt for another model
    SCORE = "score"  # its text, read by another model


class GoneReason(StrEnum):
    """Why a run is gone."""

    DELETED = "deleted"  # by who started it
    EXPIRED = "expired"  # it was older than this server keeps runs
    TAKEN_DOWN = "taken"  # hidden or deleted by whoever runs the server


NOBODY = ""  # the owner of runs that the server makes by itself: no cookie holds it
