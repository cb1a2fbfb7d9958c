"""What is told to the person at the page or the terminal, and the one exception that carries it."""

from collections.abc import Mapping

from generate.languages import gettext

MOST = 250  # characters that are told of an error that is not ours


class Problem:
    """Why something could not be done, to be put into words later: `str(problem)` is one clear sentence.

    `message` is fixed text, for which a catalogue may have another; `values` fill its placeholders (of str.format)
    only where the sentence is shown, in the language that is spoken there. Without values it is taken as it stands, braces
    and all. A value may be a Problem or a Refusal too.
    """

    def __init__(self, message: str, /, **values: object):
        self.message, self.values = message, values

    def __str__(self) -> str:
        return gettext(self.message, **self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and (self.message, self.values) == (other.message, other.values)

    def __hash__(self) -> int:
        return hash(self.message)

    def altered(self, **values: object) -> "Problem":
        """The same with other values for those of its placeholders that are given."""
        return Problem(self.message, **{name: values.get(name, value) for name, value in self.values.items()})

    def as_json(self) -> dict:
        """The values as JSON has them, beside the message: a problem in them as `{"message", "values"}`."""
        return {name: plain(value) for name, value in self.values.items()}

    def whole(self) -> dict:
        """The message and the values, as `from_json` takes them."""
        return {"message": self.message, "values": self.as_json()}

    @classmethod
    def from_json(cls, message: str, values: Mapping | None) -> "Problem":
        """From a message and what `as_json` gave; a sentence that was kept without values stays one."""
        given = {
            k: cls.from_json(v["message"], v["values"]) if isinstance(v, dict) else v for k, v in (values or {}).items()
        }
        return cls(message, **given)


class Refusal(ValueError):
    """Something was asked that cannot be done; `problem` says why, and `str(refusal)` is its sentence.

    `field` names the option at fault (or is None), so that a form can put the sentence beside it.
    """

    def __init__(self, message: str, /, field: str | None = None, **values: object):
        super().__init__(message)
        self.problem, self.field = Problem(message, **values), field

    def __str__(self) -> str:
        return str(self.problem)


class Busy(Refusal):
    """The engine's line is full; the same request may succeed after `retry_after` seconds."""

    def __init__(self, message: str, /, retry_after: int = 5, **values: object):
        super().__init__(message, **values)
        self.retry_after = retry_after


class NoRoom(Refusal):
    """A disk has too little room left; the same may be done when there is more."""


def plain(value: object) -> object:
    """A value of a problem as JSON has it: what is neither a number, a text nor a list of them is told as text."""
    if isinstance(value, Refusal):
        value = value.problem
    if isinstance(value, Problem):
        return value.whole()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def what_failed(error: Exception) -> Problem:
    """What is told of an error that is not the visitor's."""
    return Problem("The model failed: {kind}: {reason}", kind=type(error).__name__, reason=str(error)[:MOST])


def problem_of(error: Exception) -> Problem:
    """What is told of any error: a refusal's own problem, else that the model failed."""
    return error.problem if isinstance(error, Refusal) else what_failed(error)
