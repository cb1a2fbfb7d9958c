"""The one exception whose text is meant for the person at the page or the terminal."""


class Refusal(ValueError):
    """Something was asked that cannot be done; `str(refusal)` is one clear sentence saying why.

    `field` names the option at fault (or is None), so that a form can put the sentence beside it.
    """

    def __init__(self, sentence: str, field: str | None = None):
        super().__init__(sentence)
        self.field = field


class Busy(Refusal):
    """The engine's line is full; the same request may succeed after `retry_after` seconds."""

    def __init__(self, sentence: str, retry_after: int = 5):
        super().__init__(sentence)
        self.retry_after = retry_after


def what_failed(error: Exception) -> str:
    """One line for the page about an error that is not the visitor's."""
    return f"The model failed: {type(error).__name__}: {error}"[:300]


def sentence_of(error: Exception) -> str:
    return str(error) if isinstance(error, Refusal) else what_failed(error)
