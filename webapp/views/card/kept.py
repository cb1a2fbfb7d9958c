"""The cards that were drawn last, kept as long as nobody deletes a run."""

import threading
from functools import lru_cache

from generate import languages
from webapp.views.card.drawing import draw_card


class Cards:
    """The cards of one app. They are drawn one at a time, to leave the processor to the engine."""

    def __init__(self):
        self._drawing = threading.Lock()
        self._draw = lru_cache(64)(lambda _language, *drawn: draw_card(*drawn))  # it may hold words of ours

    def draw(self, parts: tuple[tuple[str, bool], ...], footer: str) -> bytes:
        """The picture of these texts, as `draw_card` makes it."""
        with self._drawing:
            return self._draw(languages.language(), parts, footer)

    def forget(self) -> None:
        """Drop all pictures: they may show text that was deleted."""
        self._draw.cache_clear()
