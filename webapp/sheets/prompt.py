"""A prompt made from a sheet: what was written keeps its tokens, what was typed between is cut into tokens by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from generate import ModelFolder, Refusal, RunLog, Vocabulary, known, unknown_records
from webapp.runs.derivation import Beginning, add_turn
from webapp.runs.kinds import Relation
from webapp.runs.probabilities import as_chosen
from webapp.runs.tables import Run
from webapp.runs.typed import as_typed
from webapp.sheets.pieces import Cell, Origin, Piece, text_of
from webapp.sheets.sources import Found
from webapp.sheets.spans import PROMPT


@dataclass
class Draft:
    """A prompt in the making: its ids, where each comes from (None: it was typed), whose turns they are, how many of the
    first are to be kept in mind, and the text itself where the tokens need not say all of it."""

    ids: list[int]
    origins: list[Origin | None]
    authors: tuple[int, ...]
    keep: int = 0
    typed: str | None = None

    def add(self, ids: Sequence[int], origins: Sequence[Origin | None], by_model: bool) -> None:
        """Go on with some tokens."""
        self.ids += ids
        self.origins += origins
        self.authors = add_turn(self.authors, len(ids), by_model)

    def add_chosen(self, index: int, vocabulary: Vocabulary) -> None:
        """Go on with a token that a person chose in the place of another."""
        self.add([index], [None], True)
        if self.typed is not None:
            self.typed += vocabulary.tokens[index].decode("utf-8", "replace")

    def packed_origins(self) -> list:
        """What a run's row says of the origins: [count] of typed tokens, [count, run, sample, first place] of others."""
        found: list[list] = []
        for origin in self.origins:
            last = found[-1] if found else [0]
            goes_on = [] if origin is None else [origin.run, origin.sample, origin.place - last[0]]
            if found and last[1:] == goes_on:
                last[0] += 1
            else:
                found.append([1] if origin is None else [1, origin.run, origin.sample, origin.place])
        return found


def draft_of(
    pieces: Sequence[Piece], folder: ModelFolder, vocabulary: str, found: Found, memory: str, parse_special: bool
) -> Draft:
    """The tokens of a sheet's text for a model, after what it shall keep in mind. `vocabulary` is the id of the model's.

    What was written with another vocabulary is cut into tokens as typed text is, and stays the model's.
    """
    groups = [(cells, list(part)) for cells, part in groupby(pieces, key=lambda piece: isinstance(piece, Cell))]
    if memory:
        first = memory_ids(memory, folder)
    elif groups and not groups[0][0]:
        first = folder.encode_prompt(text_of(groups.pop(0)[1]), parse_special)
    else:
        first = folder.encode_prompt("")
    keep, typed = len(first) if memory else 0, as_typed(memory_text(memory) + text_of(pieces), folder)
    draft = Draft(list(first), [None] * len(first), (len(first),), keep, typed)
    for cells, part in groups:
        if not cells:
            ids = folder.tokenizer.encode(text_of(part), bool(draft.ids), parse_special)
            draft.add(ids, [None] * len(ids), False)
            continue
        for own, some in groupby(part, key=lambda cell: is_own(cell, vocabulary, found)):
            add_cells(draft, list(some), own, folder, found)
    return draft


def check_memory(memory: str, folder: ModelFolder) -> None:
    """Raise Refusal where a model's window has no room for what it shall keep in mind."""
    count, limit = len(memory_ids(memory, folder)), folder.config.most_kept
    if count > limit:
        raise Refusal(
            "Keep in mind may hold {limit} tokens with {model}, a quarter of its window, not {count}.",
            "memory",
            limit=limit,
            model=folder.name,
            count=count,
        )


def memory_ids(memory: str, folder: ModelFolder) -> list[int]:
    """The first tokens of a prompt whose sheet has something to keep in mind, on lines of its own; [] where it has nothing."""
    return folder.encode_prompt(memory_text(memory)) if memory else []


def memory_text(memory: str) -> str:
    """What is to be kept in mind, on lines of its own."""
    return memory + "\n" if memory and not memory.endswith("\n") else memory


def is_own(cell: Cell, vocabulary: str, found: Found) -> bool:
    """Whether a cell's tokens mean to a model what they meant to the one that wrote them."""
    return all(found.reading(o.run, o.sample).vocabulary == vocabulary for o in cell.origins)


def add_cells(draft: Draft, cells: Sequence[Cell], own: bool, folder: ModelFolder, found: Found) -> None:
    """Go on with what a model wrote: with its tokens, or with others for the same text."""
    if own:
        origins = [origin for cell in cells for origin in cell.origins]
        ids = [int(found.reading(o.run, o.sample).records["id"][o.place]) for o in origins]
        draft.add(ids, origins, True)
    else:
        ids = folder.tokenizer.encode(text_of(cells), bool(draft.ids))
        draft.add(ids, [None] * len(ids), True)


def beginning_of(
    draft: Draft, folder: ModelFolder, parent: Run | None, log: RunLog | None, number: int | None
) -> tuple[Beginning, int]:
    """A run's beginning from a draft, and how many of its first tokens are those of `parent` (and of its sample `number`).

    What that run knew of them goes with them; None: its prompt alone is looked at.
    """
    records = unknown_records(draft.ids, folder.config.vocab_size)
    if parent is None or parent.fingerprint != folder.fingerprint():
        relation = Relation.EDIT if parent else None
        return Beginning(records, draft.authors, relation, parent, number, typed=draft.typed), 0
    context = context_of(log, number)
    both = min(len(context), len(records))
    differs = np.flatnonzero(context["id"][:both] != records["id"][:both])
    same = int(differs[0]) if len(differs) else both
    records[:same] = context[:same]
    relation = Relation.CONTINUE if same == len(records) == len(context) else Relation.EDIT
    blocked = log.blocked_before(number, same)
    return Beginning(records, draft.authors, relation, parent, number, blocked=blocked, typed=draft.typed), same


def context_of(log: RunLog, number: int | None) -> np.ndarray:
    """The records of a run's prompt, and of one of its samples if one is named."""
    return log.prompt if number is None else np.concatenate((log.prompt, log.samples[number].read()))


def chosen_record(run: Run, log: RunLog, token: Origin, chosen: int, folder: ModelFolder) -> np.ndarray:
    """The record of one of the alternatives that a model saw at a token's place; shape [1].

    Raises Refusal for a token that was none of them.
    """
    number = None if token.sample == PROMPT else token.sample
    context = context_of(log, number)
    place = token.place + (0 if number is None else len(log.prompt))
    here = context[place]
    if chosen != here["id"] and chosen not in here["alt_ids"][known(here, "alt_logprobs")]:
        raise Refusal("token must be one of the alternatives that are shown there, not {token}.", "token", token=chosen)
    return as_chosen(here, chosen, run.options, context["id"][:place], folder.tokenizer.vocabulary)
