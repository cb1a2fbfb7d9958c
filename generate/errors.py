"""The one exception whose text is meant for the person at the page or the terminal."""


class Refusal(ValueError):
    """Something was asked that cannot be done; `str(refusal)` is one clear sentence saying why.

    `message` is fixed text, for which a catalogue may have another; `values` fill its placeholders (of str.format)
    only where the sentence is shown. Without values it is taken as it stands, braces and all. A value may be a Refusal
    too. `field` names the option at fault (or is None), so that a form can put the sentence beside it.
    """

    def __init__(self, message: str, /, field: str | None = None, **values: object):
        super().__init__(message)
        self.message, self.field, self.values = message, field, values

    def __str__(self) -> str:
        return self.message.format_map(self.values) if self.values else self.message


class Busy(Refusal):
    """The engine's line is full; the same request may succeed after `retry_after` seconds."""

    def __init__(self, message: str, /, retry_after: int = 5, **values: object):
        super().__init__(message, **values)
        self.retry_after = retry_after


def what_failed(error: Exception) -> str:
    """One line for the page about an error that is not the visitor's."""
    return f"The model failed: {type(error).__name__}: {error}"[:300]


def sentence_of(error: Exception) -> str:
    return str(error) if isinstance(error, Refusal) else what_failed(error)
