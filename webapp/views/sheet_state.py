"""A sheet as its page has it: text in spans of cells, what can be done, and where the model's window begins. All of it JSON."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from generate import ModelFolder
from webapp.sheets.beginnings import Begun
from webapp.sheets.content import Content
from webapp.sheets.pieces import Cell, Piece, pieces_of, text_of
from webapp.sheets.sources import Found, Sources
from webapp.sheets.spans import Spans, Typed, runs_in, spans_from_json
from webapp.sheets.store import content_of
from webapp.sheets.tables import Sheet
from webapp.views.edge import edge_of
from webapp.views.hints import stumble
from webapp.views.lenses import classes, classes_of_each
from webapp.views.sentences import special_said
from webapp.views.versions import count_versions, versions_of

EMPTY = {
    "id": None,
    "rev": 0,
    "mine": True,
    "spans": [],
    "open": None,
    "aside": [],
    "tries": {"current": 0, "count": 0},
    "undo": False,
    "redo": False,
    "memory": "",
    "options": {},
    "lens": "",
    "edge": None,
    "versions": [],
    "version_count": 0,
    "status": "",
    "hint": "",
    "caret": None,
    "from": None,  # what it goes on from, which is not stored yet
    "typed": None,  # the whole text as an address or a form brought it, which is not stored yet
}


def state_of(
    sheet: Sheet,
    mine: bool,
    sources: Sources,
    options: dict[str, str],
    folder: ModelFolder | None,
    status: Callable[[], str],
) -> dict:
    """What the page of a sheet shows; to others than its owner what was part of its last writing, and nothing else.

    `options` are the form's fields, `status` tells that of the last run, `folder` is the model that would go on, None where
    it is not here. Needs an app context.
    """
    content, found, growing, pieces = visible(sheet, mine, sources)
    tries = len(content.tries) if content.at_try() else 0
    private = {
        "aside": [inks_of(piece, found) for piece in content.aside],
        "tries": {"current": content.current, "count": tries},
        **can_of(sheet),
        "memory": sheet.memory,
        "lens": sheet.lens,
        "hint": stumble(content.spans, folder),
    }
    return (
        EMPTY
        | {
            "id": sheet.id,
            "rev": sheet.rev if mine else sheet.shown_rev,
            "mine": mine,
            "spans": spans_with_cells(pieces, found),
            "open": open_run(content, pieces) if growing else None,
            "options": options,
            "edge": edge_of(pieces, folder, sheet.memory if mine else ""),
            "versions": versions_of(sheet, sources),
            "version_count": count_versions(sheet),
            # Asked after the text was read: a run that ended between the two would else be over and still writing.
            "status": status() if sheet.run_id in runs_in(content.spans) else "",
            "caret": len(text_of(pieces)),
        }
        | (private if mine else {})
    )


def state_begun(begun: Begun, sources: Sources, folder: ModelFolder | None) -> dict:
    """What the page of a sheet shows that goes on from a run and is not stored yet. Needs an app context."""
    found = sources.read(begun.spans)
    pieces = pieces_of(begun.spans, found)
    return EMPTY | {
        "spans": spans_with_cells(pieces, found),
        "edge": edge_of(pieces, folder, ""),
        "status": special_said(begun),
        "hint": stumble(begun.spans, folder),
        "caret": len(text_of(pieces)),
    }


def can_of(sheet: Sheet) -> dict[str, bool]:
    """Whether there is something to undo, and to redo."""
    return {"undo": sheet.pointer > 0, "redo": sheet.pointer < sheet.changes}


def visible(sheet: Sheet, mine: bool, sources: Sources) -> tuple[Content, Found, bool, list[Piece]]:
    """What somebody sees of a sheet: its content, what that refers to, whether it is being written, and its pieces."""
    content = content_of(sheet) if mine else Content(spans_from_json(sheet.shown))
    found = sources.read(content.spans, *content.aside)
    growing = found.growing(content.open) is not None
    return content, found, growing, pieces_of(content.spans, found, growing)


def text_shown(sheet: Sheet, mine: bool, sources: Sources) -> str:
    """The text of a sheet alone."""
    return text_of(visible(sheet, mine, sources)[3])


def text_in(spans: Sequence[dict]) -> str:
    """The text of spans that `spans_with_cells` gave."""
    return "".join(span["text"] if "text" in span else "".join(cell[0] for cell in span["cells"]) for span in spans)


def measures_of(sheet: Sheet, sources: Sources, folder: ModelFolder | None) -> dict[str, int | None]:
    """Of a sheet's whole text, that of a run that is being written not counted: its `length` in characters, and its `edge`."""
    content = Content(spans_from_json(sheet.spans))
    found = sources.read(content.spans)
    growing = found.growing(content.open) is not None
    pieces = pieces_of(content.spans[:-1] if growing else content.spans, found, growing)
    return {"length": len(text_of(pieces)), "edge": edge_of(pieces, folder, sheet.memory)}


def edge_seen(sheet: Sheet, mine: bool, sources: Sources, folder: ModelFolder | None) -> dict[str, int | None]:
    """The `edge` in what somebody sees of a sheet, and the `rev` of which it is."""
    pieces = visible(sheet, mine, sources)[3]
    edge = edge_of(pieces, folder, sheet.memory if mine else "")
    return {"rev": sheet.rev if mine else sheet.shown_rev, "edge": edge}


def open_run(content: Content, pieces: Sequence[Piece]) -> dict:
    """The run that is being written, and how many of its tokens are shown: not those of half a character at the end."""
    span, last = content.open, next((piece for piece in reversed(pieces) if piece.text), None)
    origin = last.origins[-1] if isinstance(last, Cell) else None
    ours = origin is not None and (origin.run, origin.sample) == (span.run, span.sample)
    return {"run": span.run, "sample": span.sample, "tokens": origin.place + 1 if ours else 0}


def spans_with_cells(pieces: Sequence[Piece], found: Found) -> list[dict]:
    """Pieces in spans: what was typed as its text, and what was written by its run, with [text, tokens, classes] of each
    cell. A cell over two runs belongs to the later, to which its first half gives no place."""
    spans: list[dict] = []
    goes_on = None  # where a cell must begin to belong to the last span
    looks: dict[tuple[str, int], list[str]] = {}  # the classes of all tokens, by sample
    for piece in pieces:
        if isinstance(piece, Typed):
            if spans and "text" in spans[-1]:
                spans[-1]["text"] += piece.text
            else:
                spans.append({"text": piece.text})
            goes_on = None
        elif piece.text:
            end = piece.origins[-1]
            own = [o for o in piece.origins if (o.run, o.sample) == (end.run, end.sample)]
            if own[0] != goes_on:
                spans.append({"run": end.run, "sample": end.sample, "from": own[0].place, "cells": []})
            spans[-1]["cells"].append([piece.text, len(own), look_of(piece, found, looks)])
            goes_on = replace(end, place=end.place + 1)
    return spans


def look_of(cell: Cell, found: Found, looks: dict[tuple[str, int], list[str]]) -> str:
    """The classes of a cell; `looks` keeps those of the single tokens of each sample."""
    if len(cell.origins) > 1:
        return classes(records_of(cell, found))
    (origin,) = cell.origins
    name = origin.run, origin.sample
    if name not in looks:
        looks[name] = classes_of_each(found.reading(*name).records)
    return looks[name][origin.place]


def records_of(cell: Cell, found: Found) -> np.ndarray:
    """The records of a cell's tokens; of those that have all one kind of record."""
    parts = [found.reading(o.run, o.sample).records[o.place : o.place + 1] for o in cell.origins]
    return np.concatenate([part for part in parts if part.dtype == parts[-1].dtype])


def inks_of(spans: Spans, found: Found) -> list[dict]:
    """A text in its two inks."""
    parts: list[dict] = []
    for piece in pieces_of(spans, found):
        red = isinstance(piece, Cell)
        if parts and parts[-1]["red"] == red:
            parts[-1]["text"] += piece.text
        else:
            parts.append({"text": piece.text, "red": red})
    return parts
