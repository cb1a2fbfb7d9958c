"""What a person may ask of a run: each option with its limits, checked in one place for page and terminal."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields

from generate.errors import Refusal
from generate.sampling.lists import (
    BREAKERS,
    ListOption,
    parse_banned,
    parse_biases,
    parse_breakers,
    parse_stop,
    short,
)


@dataclass(frozen=True)
class Option:
    """One numeric option: `kind` is int or float, and low <= value <= high. `more`: one that few people ask for."""

    name: str
    kind: type
    low: float
    high: float
    default: float
    meaning: str
    more: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the option is a whole number."""
        return self.kind is int

    @property
    def limits(self) -> str:
        """The limits as a person reads them."""
        return f"From {self.low:,.10g} to {self.high:,.10g}."

    def parse(self, value: object) -> float:
        """Return `value` (text or a number) as a number within the limits, or raise Refusal."""
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError
            number = self.kind(value)
            if number != float(value):
                raise ValueError
        except (ValueError, OverflowError):
            number = float("nan")
        if not (self.low <= number <= self.high):
            raise Refusal(
                "{name} must be a whole number from {low:,.10g} to {high:,.10g}, not {given}."
                if self.is_whole
                else "{name} must be a number from {low:,.10g} to {high:,.10g}, not {given}.",
                self.name,
                name=self.name,
                low=self.low,
                high=self.high,
                given=short(value),
            )
        return number


OPTIONS = (
    Option(
        "max_new_tokens",
        int,
        0,
        4096,
        200,
        "How many tokens to write at the most; a word is one or two; 0 only reads the text.",
    ),
    Option(
        "min_new_tokens",
        int,
        0,
        4096,
        0,
        "No sample ends before so many tokens, neither by itself nor at a stop string; 0 is off.",
    ),
    Option(
        "temperature",
        float,
        0,
        5,
        0.8,
        "Boldness: low repeats itself, high rambles; 0 always takes the likeliest token.",
    ),
    Option("top_k", int, 0, 1_000_000, 40, "Choose among this many of the likeliest tokens; 0 is off."),
    Option(
        "top_p", float, 0, 1, 1, "Choose among the likeliest tokens that make up this share of probability; 1 is off."
    ),
    Option(
        "repetition_penalty", float, 0.1, 10, 1, "Above 1, tokens already in the text become less likely; 1 is off."
    ),
    Option(
        "frequency_penalty",
        float,
        -2,
        2,
        0,
        "Above 0, a token becomes less likely each time that it stands in the text; 0 is off.",
        more=True,
    ),
    Option(
        "presence_penalty",
        float,
        -2,
        2,
        0,
        "Above 0, a token becomes less likely once it stands in the text; 0 is off.",
        more=True,
    ),
    Option(
        "dry_multiplier",
        float,
        0,
        10,
        0,
        "Against circles (DRY): how much less likely a token becomes that would repeat a stretch of the text; "
        "0.8 is usual, 0 is off.",
        more=True,
    ),
    Option(
        "dry_base", float, 1, 4, 1.75, "DRY: by how much more with each token that the stretch is longer.", more=True
    ),
    Option("dry_allowed_length", int, 1, 50, 2, "DRY: so many tokens in a row may be repeated as they are.", more=True),
    Option(
        "dry_range", int, 2, 4096, 1024, "DRY: how many of the last tokens are searched for such stretches.", more=True
    ),
    Option(
        "top_n_sigma",
        float,
        0,
        10,
        0,
        "Choose among tokens whose score is so many standard deviations below the best at the most; "
        "1 to 2 is usual, 0 is off.",
        more=True,
    ),
    Option(
        "min_p",
        float,
        0,
        1,
        0,
        "Choose among tokens at least this share as likely as the likeliest; 0.05 to 0.1 is usual, 0 is off.",
        more=True,
    ),
    Option(
        "xtc_probability",
        float,
        0,
        1,
        0,
        "Against the obvious (XTC): how often the likeliest tokens are left out; 0.5 is usual, 0 is off.",
        more=True,
    ),
    Option(
        "xtc_threshold",
        float,
        0,
        0.5,
        0.1,
        "XTC: of the tokens at least this likely, the least likely stays.",
        more=True,
    ),
    Option("samples", int, 1, 32, 1, "How many continuations to write side by side."),
    Option("seed", int, 0, 2**32 - 1, 0, "The same seed writes the same text again; empty draws a new one."),
)
BY_NAME = {option.name: option for option in OPTIONS}

LISTS = (
    ListOption(
        "stop",
        parse_stop,
        "The text ends before any of these, one on a line; they are not shown. Write \\n for a line break.",
        "end a sample before this text",
    ),
    ListOption(
        "banned_phrases",
        parse_banned,
        "Words and phrases that never appear, one on a line, in capitals or not, also inside a word; what may be the "
        "beginning of one is held back until it is not.",
        "a phrase that never appears",
        more=True,
    ),
    ListOption(
        "dry_sequence_breakers",
        parse_breakers,
        'DRY: stretches end at any of these, one on a line; empty: \\n, :, " and *.',
        "a stretch that DRY looks for ends at this text",
        default=BREAKERS,
        more=True,
    ),
    ListOption(
        "logit_bias",
        parse_biases,
        "Make tokens likelier or less likely: a word (by itself and after a space) or a token’s number, =, and a number "
        "from -100 to 100, one on a line, as in: horse = -5",
        "make a token likelier or less likely, as in 'horse = -5', from -100 to 100; the token may be its number",
        more=True,
    ),
)


@dataclass(frozen=True)
class Sampling:
    """The options of one run, all within their limits, as the tables above name them.

    `stop` holds strings that end a sample and are not shown; each line of `logit_bias` is "TOKEN = NUMBER". `preset` is the
    name of what they were taken from, where a person chose a preset; it acts on nothing.
    """

    max_new_tokens: int = 200
    min_new_tokens: int = 0
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_range: int = 1024
    top_n_sigma: float = 0.0
    min_p: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()
    banned_phrases: tuple[str, ...] = ()
    dry_sequence_breakers: tuple[str, ...] = BREAKERS
    logit_bias: tuple[str, ...] = ()
    preset: str = ""

    def as_dict(self) -> dict:
        """Plain values, in the order of the fields, for JSON and for the database; `preset` only where there is one."""
        found = {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}
        return found if self.preset else {name: value for name, value in found.items() if name != "preset"}


def parse_sampling(given: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> Sampling:
    """Check what a person typed. Missing or blank options take `defaults` (say, a model's), then ours.

    A list is one typed text with an entry on each line, or a list of strings.
    A blank seed is drawn at random. Raises Refusal naming the option, its limit and the value.
    """
    values = {}
    for option in OPTIONS:
        value = given.get(option.name)
        if value is None or (isinstance(value, str) and not value.strip()):
            value = (defaults or {}).get(option.name, option.default)
            if option.name == "seed":
                value = secrets.randbelow(2**32)
        values[option.name] = option.parse(value)
    return Sampling(**values, **{option.name: option.parse(given.get(option.name)) for option in LISTS})
