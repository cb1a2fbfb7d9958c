"""From what a person has to the parts that are trained on and held out, encoded once and kept."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from finetune.documents import Reading, layout, misread, pieces
from finetune.encoding import ABOUT, Encoding, encode, open_encoding
from finetune.options import Options
from finetune.part import Part
from finetune.sources import find_sources
from finetune.split import FEWEST_TOKENS, split, whole
from finetune.start import Start, from_nothing
from generate import N_, Problem, Refusal, counted, gettext, read_vocabulary

PARTS = {"train": N_("train"), "validation": N_("validation"), "test": N_("test")}


@dataclass(frozen=True)
class Data:
    """`parts` by name (train, validation, test), and the files they are from: {"name", "bytes", "sha256"}."""

    parts: dict[str, Part]
    cut: bool  # there were too few documents to deal out whole ones
    sources: tuple[dict, ...]
    validation_sources: tuple[dict, ...] = ()
    assumed: tuple[Problem, ...] = ()  # lines that say how tables were read

    @property
    def told(self) -> str:
        """How many documents and tokens each part has, in one sentence."""
        counts = (
            gettext(
                "{part} {documents}, {tokens}",
                part=gettext(PARTS.get(name, name)),
                documents=counted(len(part), "document"),
                tokens=counted(part.size),
            )
            for name, part in self.parts.items()
        )
        cut = gettext(" (cut from each document: there are few)") if self.cut else ""
        return gettext(", ").join(counts) + cut

    def facts(self) -> dict:
        """What run.json says of the data: files, and documents and tokens by part."""
        return {
            "data": list(self.sources),
            "validation_data": list(self.validation_sources),
            "documents": {name: len(part) for name, part in self.parts.items()},
            "tokens": {name: part.size for name, part in self.parts.items()},
        }


def cache_folder() -> Path:
    """Where encodings are kept; a file in it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rubric" / "encodings"


def reading(options: Options) -> Reading:
    """The options that say how files become documents; raises Refusal."""
    o = options
    return Reading(o.documents, o.format, o.encoding, o.column or None, o.field or None, o.header)


def assumptions(options: Options, scratch: Path, *given: Sequence[str]) -> tuple[Problem, ...]:
    """How the tables among the files were read, a line for each way, and which files were misread, by their looks."""
    found: dict[Problem, list[str]] = {}
    doubts = []
    files = [find_sources(some, scratch) for some in given if some and not is_encoding(some)]
    for source in dict.fromkeys(chain.from_iterable(files)):
        if how := layout(source, reading(options)):
            found.setdefault(how.told, []).append(source.name)
        if doubt := misread(source, reading(options)):
            doubts.append(Problem("{doubt}.", doubt=doubt))
    return tuple(doubts) + tuple(
        Problem("{file}: {how}.", file=files[0], how=how)
        if len(files) == 1
        else Problem("{file} and {count:,} more: {how}.", file=files[0], count=len(files) - 1, how=how)
        for how, files in found.items()
    )


def new_tokenizer(given: Sequence[str], options: Options, scratch: Path) -> Start:
    """A tokenizer trained on all of the text."""
    encodings = [name for name in given if (Path(name) / ABOUT).is_file()]
    if encodings:
        raise Refusal(
            "{path} is encoded already; --from-scratch needs the text, to make a tokenizer for it.", path=encodings[0]
        )
    sources = find_sources(given, scratch)
    return from_nothing((text for source in sources for text, _ in pieces(source, reading(options))), options)


def encoded(
    given: Sequence[str], options: Options, start: Start, place: Path, scratch: Path, shows: bool, by: Callable = encode
) -> Encoding:
    """Tokenise, or find in the cache `place` what was tokenised before; a folder that `encode` made is taken as it is.

    `by` is `encode`, or `write_encoding`, for which `place` is the folder to make.
    """
    if is_encoding(given):
        return opened(Path(given[0]), options, start)
    sources = find_sources(given, scratch)
    size = sum(source.stat().st_size for source in sources)
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=gettext("tokenising"), disable=None, leave=False)
    with bar if shows else nullcontext():
        step = bar.update if shows else (lambda size: None)
        return by(sources, reading(options), start.tokenizer, start.begin, start.end, place, step)


def is_encoding(given: Sequence[str]) -> bool:
    """Whether what is given is one folder that `encode` made."""
    return len(given) == 1 and (Path(given[0]) / ABOUT).is_file()


def opened(path: Path, options: Options, start: Start) -> Encoding:
    """What `encode` made; raises Refusal where other documents were asked for."""
    found = open_encoding(path, start.tokenizer)
    if (found.begin, found.end) != (start.begin, start.end):
        raise Refusal(
            "{path} was encoded for a model whose documents end otherwise; encode the text for this one.", path=path
        )
    known = start.tokenizer.get_vocab_size(with_added_tokens=True)
    if len(found.tokens) and (highest := int(found.tokens.max())) >= known:
        raise Refusal(
            "{path} holds the id {id}, where the tokenizer has {tokens} tokens; encode the text again.",
            path=path,
            id=highest,
            tokens=known,
        )
    kept = json.loads((path / ABOUT).read_text("utf-8")).get("reading")
    for name, value in asdict(reading(options)).items():
        if value != getattr(Reading(), name) and isinstance(kept, dict) and value != kept.get(name):
            raise Refusal(
                "{path} is encoded already; --{option} {given!r:.60} is for text.", path=path, option=name, given=value
            )
    return found


def load(
    given: Sequence[str],
    validation: Sequence[str],
    options: Options,
    start: Start,
    cache: Path,
    scratch: Path,
    shows: bool,
) -> Data:
    """All parts; raises Refusal when there is too little to train on."""
    found = encoded(given, options, start, cache, scratch, shows)
    everything = whole(found.tokens, found.ends)
    if everything.size < FEWEST_TOKENS:
        reason = Refusal(
            "{tokens} token are too few to train on; at least {limit} are needed."
            if everything.size == 1
            else "{tokens} tokens are too few to train on; at least {limit} are needed.",
            tokens=everything.size,
            limit=FEWEST_TOKENS,
        )
        raise about(given, reason)
    if not validation:
        parts, cut = split(everything, options.split, options.seed)
        if "train" not in parts:
            reason = Refusal(
                "--split {split} leaves none of its {tokens} tokens to train on.",
                split=options.split,
                tokens=everything.size,
            )
            raise about(given, reason)
        if options.patience and "validation" not in parts:
            raise Refusal(
                "--patience {patience} needs a validation part, and --split {split} gives none; give another, or "
                "--validation FILE.",
                patience=options.patience,
                split=options.split,
            )
        return Data(parts, cut, found.sources, assumed=assumptions(options, scratch, given))
    held = encoded(validation, options, start, cache, scratch, shows)
    parts = {"train": everything, "validation": whole(held.tokens, held.ends)}
    assumed = assumptions(options, scratch, given, validation)
    return Data(parts, False, found.sources, held.sources, assumed)


def about(given: Sequence[str], reason: Refusal) -> Refusal:
    """`reason`, with the file that it is about, or the number of files."""
    if len(given) == 1:
        return Refusal("{file}: {reason}", file=given[0], reason=reason)
    return Refusal("{count} files: {reason}", count=len(given), reason=reason)


def byte_lengths(start: Start, size: int) -> np.ndarray:
    """How many bytes of text each id stands for, int64 [size]; 0 for special tokens."""
    return np.array([len(token) for token in read_vocabulary(start.tokenizer, size).tokens], np.int64)
