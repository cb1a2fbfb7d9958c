"""Options that are lists of strings: typed one on a line, or given as a list. Each is checked in one place."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from generate.errors import Problem, Refusal
from generate.sampling.groups import Group
from generate.text.escapes import unescape
from generate.text.incoming import plain_text
from generate.text.vocabulary import Vocabulary

MAX_BYTES = 200  # of one string
MAX_TOKEN_BYTES = 150  # GPT-2's longest token has 128
MAX_BIAS = 100
BREAKERS = ("\n", ":", '"', "*")  # Source: oobabooga/text-generation-webui, PR 5677
NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class ListOption:
    """One option that is a list: `parse` makes a tuple of a typed text or a list, or raises Refusal.

    `title` is its plain name. `meaning` is for the form, `command` for the terminal, where each string is given by an option
    of its own.
    """

    name: str
    parse: Callable[[object], tuple[str, ...]]
    title: str
    meaning: str
    command: str
    default: tuple[str, ...] = ()
    group: Group = Group.COMMON

    @property
    def more(self) -> bool:
        """Whether few people ask for it."""
        return self.group is not Group.COMMON


def short(value: object) -> str | Problem:
    """What was given, as a message may quote it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return Problem("a number of more than 40 digits")  # Python refuses to print the longest ones
    text = str(value).strip()
    return repr(text if len(text) <= 40 else text[:39] + "…")


@dataclass(frozen=True)
class Lines:
    """A list of at most so many strings, and the name of its option."""

    name: str
    most: int


STOPS, DRY_BREAKERS, BIASES = Lines("stop", 8), Lines("dry_sequence_breakers", 32), Lines("logit_bias", 300)
BANNED = Lines("banned_phrases", 48)


def parse_lines(given: object, kind: Lines) -> tuple[str, ...]:
    """The strings of an option: from typed text one on each line (escapes allowed), from a list as they are."""
    if isinstance(given, str):
        lines = [unescape(line) for line in plain_text(given).split("\n")]
    elif given is None or isinstance(given, list | tuple):
        lines = list(given or ())
    else:
        lines = [given]
    if not all(isinstance(line, str) for line in lines):
        raise Refusal(
            "{name} must be a list of strings, not {kind}.", kind.name, name=kind.name, kind=type(given).__name__
        )
    found = tuple(dict.fromkeys(line for line in lines if line))
    if len(found) > kind.most:
        raise Refusal(
            "{name} takes at most {limit} strings, one on a line, not {given}.",
            kind.name,
            name=kind.name,
            limit=kind.most,
            given=len(found),
        )
    for line in found:
        if re.search("[\ud800-\udfff]", line):
            raise Refusal("{name} strings must be text that UTF-8 can write.", kind.name, name=kind.name)
        if (size := len(line.encode())) > MAX_BYTES:
            raise Refusal(
                "{name} strings have at most {limit} bytes; one of yours has {size}.",
                kind.name,
                name=kind.name,
                limit=MAX_BYTES,
                size=size,
            )
    return found


def parse_stop(given: object) -> tuple[str, ...]:
    """The strings that end a sample."""
    return parse_lines(given, STOPS)


def parse_banned(given: object) -> tuple[str, ...]:
    """The phrases that must not appear."""
    return parse_lines(given, BANNED)


def parse_breakers(given: object) -> tuple[str, ...]:
    """DRY's sequence breakers: the usual ones where nothing was given, none where an empty list was."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return BREAKERS
    return parse_lines(given, DRY_BREAKERS)


def parse_biases(given: object) -> tuple[str, ...]:
    """Lines of "TOKEN = NUMBER", also from a mapping as OpenAI's API has it; of a token named twice the last counts."""
    if isinstance(given, Mapping):
        given = ["{} = {}".format(token, str(short(bias)).strip("'")) for token, bias in given.items()]
    found = {}
    for line in parse_lines(given, BIASES):
        token, _, typed = line.rpartition("=")
        if not (0 < len((token := token.strip(" ")).encode()) <= MAX_TOKEN_BYTES):
            raise Refusal("logit_bias has lines like: horse = -5, not {given}.", "logit_bias", given=short(line))
        found[token] = f"{token} = {bias_within_limits(token, typed):.10g}"
    return tuple(found.values())


def bias_within_limits(token: str, typed: str) -> float:
    """The number of a bias; raises Refusal."""
    try:
        bias = float(typed)
    except ValueError:
        bias = float("nan")
    if not (-MAX_BIAS <= bias <= MAX_BIAS):
        raise Refusal(
            "logit_bias must give {token} a number from {low} to {high}, not {given}.",
            "logit_bias",
            token=short(token),
            low=-MAX_BIAS,
            high=MAX_BIAS,
            given=short(typed),
        )
    return bias


def bias_pairs(lines: Iterable[str]) -> Iterator[tuple[str, float]]:
    """The tokens as they were named and what is added to their logits; `lines` as `parse_biases` gives them."""
    for line in lines:
        token, _, bias = line.rpartition(" = ")
        yield token, float(bias)


def token_biases(lines: Iterable[str], vocabulary: Vocabulary) -> dict[int, float]:
    """What is added to the logit of each token id; `lines` as `parse_biases` gives them.

    A word stands for those of two tokens that there are: itself, and itself after a space. Raises Refusal for a word
    that is no token either way, and for an id past the last one.
    """
    biases, words = {}, {}
    for token, bias in bias_pairs(lines):
        if not NUMBER.fullmatch(token):
            words[token.encode()] = bias
        elif int(token) < len(vocabulary):
            biases[int(token)] = bias
        else:
            raise Refusal(
                "logit_bias names token {token}, and this model has {count:,} of them, from 0 on.",
                "logit_bias",
                token=int(token),
                count=len(vocabulary),
            )
    missing = set(words)
    for index, data in enumerate(vocabulary.tokens if words else ()):
        word = data if data in words else data.removeprefix(b" ")
        if word in words:
            biases.setdefault(index, words[word])
            missing.discard(word)
    if missing:
        raise Refusal(
            "logit_bias names {word}, which is not one token of this model, neither by itself nor after a space.",
            "logit_bias",
            word=short(min(missing).decode()),
        )
    return biases
