"""How a sheet came to be what it is: one change after the other, each of which can be taken back and done again.

A change keeps what it took out beside what it put in, so that both ways lead to exactly the same spans.
"""

from collections.abc import Callable, Sequence

from webapp.sheets.content import (
    Content,
    aside_from_json,
    aside_to_json,
    tries_from_json,
    tries_to_json,
)
from webapp.sheets.spans import Typed, normal, spans_from_json, spans_to_json


def change_between(before: Content, after: Content) -> dict:
    """What is stored of a change: where two texts differ, and what was set aside, the tries and what is kept in mind where
    they do.

    `head` and `tail` count what stays, `left` and `right` characters that stay of the typed text next to it.
    """
    head, tail = edges(before.spans, after.spans)
    removed, inserted = (list(c.spans[head : len(c.spans) - tail]) for c in (before, after))
    change = {"head": head, "tail": tail, "left": 0, "right": 0}
    if removed and inserted and isinstance(removed[0], Typed) and isinstance(inserted[0], Typed):
        change["left"] = in_common(removed[0].text, inserted[0].text)
        for part in (removed, inserted):
            part[0] = Typed(part[0].text[change["left"] :])
    if removed and inserted and isinstance(removed[-1], Typed) and isinstance(inserted[-1], Typed):
        change["right"] = in_common(removed[-1].text[::-1], inserted[-1].text[::-1])
        for part in (removed, inserted):
            part[-1] = Typed(part[-1].text[: len(part[-1].text) - change["right"]])
    change |= {"removed": spans_to_json(normal(removed)), "inserted": spans_to_json(normal(inserted))}
    if before.aside != after.aside:
        change["aside"] = exchange(before.aside, after.aside, aside_to_json)
    if (before.tries, before.current) != (after.tries, after.current):
        change["tries"] = exchange(before.tries, after.tries, tries_to_json)
        change["current"] = [before.current, after.current]
    if before.memory != after.memory:
        change["memory"] = [before.memory, after.memory]
    return change


def exchange(before: Sequence, after: Sequence, to_json: Callable[[Sequence], list]) -> dict:
    """What is stored where a few of many items have changed, each of which may be long."""
    head, tail = edges(before, after)
    removed, inserted = (to_json(items[head : len(items) - tail]) for items in (before, after))
    return {"head": head, "tail": tail, "removed": removed, "inserted": inserted}


def exchanged(items: tuple, change: dict, side: str, from_json: Callable[[list], tuple]) -> tuple:
    """The items with those of one `side` of an exchange in its place."""
    return (*items[: change["head"]], *from_json(change[side]), *items[len(items) - change["tail"] :])


def edges(one: Sequence, other: Sequence) -> tuple[int, int]:
    """How many first items, and how many last ones of the others, two sequences have in common."""
    head = in_common(one, other)
    return head, in_common(one[head:][::-1], other[head:][::-1])


def in_common(one: Sequence, other: Sequence) -> int:
    """How many first items two sequences have in common."""
    most = min(len(one), len(other))
    return next((n for n in range(most) if one[n] != other[n]), most)


def done_again(content: Content, change: dict) -> Content:
    """The content after a change that it was before."""
    return swapped(content, change, "inserted")


def taken_back(content: Content, change: dict) -> Content:
    """The content before a change that it was after."""
    return swapped(content, change, "removed")


def swapped(content: Content, change: dict, side: str) -> Content:
    """The content with what there is on one `side` of a change in its place."""
    head, end = content.spans[: change["head"]], len(content.spans) - change["tail"]
    here, tail = content.spans[change["head"] : end], content.spans[end:]
    first = here[0].text[: change["left"]] if change["left"] else ""
    last = here[-1].text[len(here[-1].text) - change["right"] :] if change["right"] else ""
    text = normal([*head, Typed(first), *spans_from_json(change[side]), Typed(last), *tail])
    aside, tries, current, memory = content.aside, content.tries, content.current, content.memory
    if "aside" in change:
        aside = exchanged(aside, change["aside"], side, aside_from_json)
    if "tries" in change:
        tries = exchanged(tries, change["tries"], side, tries_from_json)
        current = change["current"][side == "inserted"]
    if "memory" in change:
        memory = change["memory"][side == "inserted"]
    return Content(text, aside, tries, current, memory)
