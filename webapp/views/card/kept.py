"""The cards that were drawn last, kept as long as nobody deletes a run."""

import threading
from functools import lru_cache

from webapp.views.card.drawing import draw_card

drawing = threading.Lock()  # one card at a time: it is work for a processor that is there to write
kept_card = lru_cache(64)(draw_card)


def card_of(parts: tuple[tuple[str, bool], ...], footer: str) -> bytes:
    """The picture of these texts, as `draw_card` makes it."""
    with drawing:
        return kept_card(parts, footer)


def forget_cards() -> None:
    """Let no text live on in a picture."""
    kept_card.cache_clear()
