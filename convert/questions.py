"""What whoever converts has to tell, because no checkpoint does: refusals that are questions to a page."""

from generate import Refusal


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
