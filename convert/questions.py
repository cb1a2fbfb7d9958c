"""What a page goes on from: what no checkpoint tells, so that it is asked, and what was not the checkpoint's fault."""

import errno

from generate import NoRoom, Refusal

OURS = (  # errors of this machine, whatever it is that is converted
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)


class Question(Refusal):
    """Something is missing. `asks` says what, to programs."""

    asks = ""

    @property
    def about(self) -> dict:
        """The question for a page: what is asked, and what is known that helps to answer."""
        return {"asks": self.asks} | self.problem.as_json()


class UnknownHeads(Question):
    """The number of attention heads."""

    asks = "heads"


class UnknownVocabulary(Question):
    """Whose vocabulary the model was trained with."""

    asks = "vocabulary"


def is_ours(error: BaseException | None) -> bool:
    """Whether the same may do another time: the disk was full, or a folder cannot be written, or a refusal tells of that."""
    told = error.__context__ if isinstance(error, Refusal) else error
    return isinstance(error, NoRoom) or (isinstance(told, OSError) and told.errno in OURS)
