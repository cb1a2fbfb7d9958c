"""What a person may ask of a run: each option with its limits, checked in one place for page and terminal."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields

from generate.errors import Refusal
from generate.languages import gettext
from generate.sampling.groups import Group
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
    """One numeric option: `kind` is int or float, and low <= value <= high.

    `title` is its plain name, for people; at the value `off` it does nothing, None: there is no such value. `on_page` is what
    it is where a person leaves its field empty in the page's form, None: `default`.
    """

    name: str
    kind: type
    low: float
    high: float
    default: float
    title: str
    meaning: str
    group: Group = Group.COMMON
    off: float | None = None
    on_page: float | None = None

    @property
    def more(self) -> bool:
        """Whether few people ask for it."""
        return self.group is not Group.COMMON

    @property
    def is_whole(self) -> bool:
        """Whether the option is a whole number."""
        return self.kind is int

    @property
    def limits(self) -> str:
        """The limits as a person reads them."""
        return gettext("From {low:,.10g} to {high:,.10g}.", low=self.low, high=self.high)

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
        "How long",
        "How many tokens to write at the most; a word is one or two; 0 only reads the text.",
    ),
    Option(
        "end_at_sentence",
        int,
        0,
        4096,
        0,
        "End at a sentence",
        "The text stops where a sentence ends, up to so many tokens early (a quarter of its length at the most); 0 is off.",
        off=0,
        on_page=64,
    ),
    Option(
        "temperature",
        float,
        0,
        5,
        0.8,
        "How bold",
        "Low repeats itself, high rambles; 0 always takes the likeliest token.",
    ),
    Option(
        "top_p",
        float,
        0,
        1,
        1,
        "Leave out the unlikely",
        "Choose among the likeliest tokens that make up this share of probability; 1 is off.",
        off=1,
    ),
    Option(
        "top_k",
        int,
        0,
        1_000_000,
        40,
        "How many to choose from",
        "Choose among this many of the likeliest tokens; 0 is off.",
        off=0,
    ),
    Option(
        "repetition_penalty",
        float,
        0.1,
        10,
        1,
        "Fewer repeats",
        "Above 1, tokens already in the text become less likely; 1 is off.",
        off=1,
    ),
    Option(
        "frequency_penalty",
        float,
        -2,
        2,
        0,
        "Fewer frequent words",
        "Above 0, a token becomes less likely each time that it stands in the text; 0 is off.",
        Group.REPEATING,
        off=0,
    ),
    Option(
        "presence_penalty",
        float,
        -2,
        2,
        0,
        "More new words",
        "Above 0, a token becomes less likely once it stands in the text; 0 is off.",
        Group.REPEATING,
        off=0,
    ),
    Option(
        "dry_multiplier",
        float,
        0,
        10,
        0,
        "Against circles",
        "How much less likely a token becomes that would repeat a stretch of the text (DRY); 0.8 is usual, 0 is off.",
        Group.REPEATING,
        off=0,
    ),
    Option(
        "dry_base",
        float,
        1,
        4,
        1.75,
        "More for long circles",
        "DRY: by how much more with each token that the stretch is longer.",
        Group.REPEATING,
    ),
    Option(
        "dry_allowed_length",
        int,
        1,
        50,
        2,
        "Short repeats let pass",
        "DRY: so many tokens in a row may be repeated as they are.",
        Group.REPEATING,
    ),
    Option(
        "dry_range",
        int,
        2,
        4096,
        1024,
        "How far it looks back",
        "DRY: how many of the last tokens are searched for such stretches.",
        Group.REPEATING,
    ),
    Option(
        "min_p",
        float,
        0,
        1,
        0,
        "Leave out the far-fetched",
        "Choose among tokens at least this share as likely as the likeliest; 0.05 to 0.1 is usual, 0 is off.",
        Group.CHOOSING,
        off=0,
    ),
    Option(
        "top_n_sigma",
        float,
        0,
        10,
        0,
        "How far below the best",
        "Choose among tokens whose score is so many standard deviations below the best at the most; "
        "1 to 2 is usual, 0 is off.",
        Group.CHOOSING,
        off=0,
    ),
    Option(
        "xtc_probability",
        float,
        0,
        1,
        0,
        "Pass over the obvious",
        "How often the likeliest tokens are left out (XTC); 0.5 is usual, 0 is off.",
        Group.CHOOSING,
        off=0,
    ),
    Option(
        "xtc_threshold",
        float,
        0,
        0.5,
        0.1,
        "What counts as obvious",
        "XTC: of the tokens at least this likely, the least likely stays.",
        Group.CHOOSING,
    ),
    Option(
        "min_new_tokens",
        int,
        0,
        4096,
        0,
        "At least so long",
        "No sample ends before so many tokens, neither by itself nor at a stop string; 0 is off.",
        Group.LENGTH,
        off=0,
    ),
    Option(
        "n_keep",
        int,
        0,
        4096,
        0,
        "Beginning that stays",
        "How many of the first tokens stay in the model’s window when it is full, a quarter of it at the most; 0 is off.",
        Group.LENGTH,
        off=0,
    ),
    Option("samples", int, 1, 32, 1, "How many texts", "How many continuations to write side by side.", Group.LENGTH),
    Option(
        "seed",
        int,
        0,
        2**32 - 1,
        0,
        "Luck",
        "The same number writes the same text again; empty draws a new one.",
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}

LISTS = (
    ListOption(
        "stop",
        parse_stop,
        "Where to stop",
        "The text ends before any of these, one on a line; they are not shown. Write \\n for a line break.",
        "end a sample before this text",
    ),
    ListOption(
        "banned_phrases",
        parse_banned,
        "Never write",
        "Words and phrases that never appear, one on a line, in capitals or not, also inside a word; what may be the "
        "beginning of one is held back until it is not.",
        "a phrase that never appears",
        group=Group.WORDS,
    ),
    ListOption(
        "dry_sequence_breakers",
        parse_breakers,
        "Where a circle ends",
        'DRY: stretches end at any of these, one on a line; empty: \\n, :, " and *.',
        "a stretch that DRY looks for ends at this text",
        default=BREAKERS,
        group=Group.REPEATING,
    ),
    ListOption(
        "logit_bias",
        parse_biases,
        "Likelier and less likely words",
        "Make tokens likelier or less likely: a word (by itself and after a space) or a token’s number, =, and a number "
        "from -100 to 100, one on a line, as in: horse = -5",
        "make a token likelier or less likely, as in 'horse = -5', from -100 to 100; the token may be its number",
        group=Group.WORDS,
    ),
)


@dataclass(frozen=True)
class Sampling:
    """The options of one run, all within their limits, as the tables above name them.

    `stop` holds strings that end a sample and are not shown; each line of `logit_bias` is "TOKEN = NUMBER". `preset` is the
    name of what they were taken from, where a person chose a preset; it acts on nothing.
    """

    max_new_tokens: int = 200
    end_at_sentence: int = 0
    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 40
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_range: int = 1024
    min_p: float = 0.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    min_new_tokens: int = 0
    n_keep: int = 0
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()
    banned_phrases: tuple[str, ...] = ()
    dry_sequence_breakers: tuple[str, ...] = BREAKERS
    logit_bias: tuple[str, ...] = ()
    preset: str = ""

    @property
    def may_end_at(self) -> int:
        """From how many tokens on a sample ends where a sentence does."""
        reach = min(self.end_at_sentence, self.max_new_tokens // 4)
        return max(1, self.min_new_tokens, self.max_new_tokens - reach)

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
