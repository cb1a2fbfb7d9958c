"""What a run goes through, and how its samples end: strings, stored, compared and sent as JSON like any other."""

from enum import StrEnum


class RunState(StrEnum):
    """Where a run is, mostly in this order."""

    WAITING = "waiting"  # in the queue
    LOADING = "loading"  # its model is being loaded
    READING = "reading"  # its prompt is being read
    WRITING = "writing"
    PAUSED = "paused"  # a log that was restored, until somebody goes on with it
    DONE = "done"


class FinishReason(StrEnum):
    """How a sample ended."""

    STOP = "stop"  # at a stop string, or at the model's end token
    LENGTH = "length"  # it wrote as many tokens as were asked for, or all of a scored text is read
    ERROR = "error"
    CANCELLED = "cancelled"  # somebody pressed Stop
    UNWATCHED = "unwatched"  # nobody had it open any more
    YIELDED = "yielded"  # a run that does not yield wanted its rows


class Withdrawal(StrEnum):
    """Why a run is told no further in a log that has not ended by itself; stored nowhere."""

    MOVED = "moved"  # another server goes on with it
    DELETED = "deleted"
    TAKEN_DOWN = "taken down"  # by whoever runs the server


BY_ITSELF = frozenset((FinishReason.STOP, FinishReason.LENGTH))
