"""What a person may ask of a run: each option with its limits, checked in one place for page and terminal."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields

from generate.errors import Problem, Refusal
from generate.text.escapes import unescape
from generate.text.incoming import plain_text

MAX_STOPS = 8
MAX_STOP_BYTES = 200


@dataclass(frozen=True)
class Option:
    """One numeric option: `kind` is int or float, and low <= value <= high."""

    name: str
    kind: type
    low: float
    high: float
    default: float
    meaning: str

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


def short(value: object) -> str | Problem:
    """What was given, as a message may quote it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return Problem("a number of more than 40 digits")  # Python refuses to print the longest ones
    text = str(value).strip()
    return repr(text if len(text) <= 40 else text[:39] + "…")


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
    Option("samples", int, 1, 32, 1, "How many continuations to write side by side."),
    Option("seed", int, 0, 2**32 - 1, 0, "The same seed writes the same text again; empty draws a new one."),
)
BY_NAME = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class Sampling:
    """The options of one run, all within their limits. `stop` holds strings that end a sample and are not shown."""

    max_new_tokens: int = 200
    min_new_tokens: int = 0
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """Plain values, in the order of the fields, for JSON and for the database."""
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


def parse_sampling(given: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> Sampling:
    """Check what a person typed. Missing or blank options take `defaults` (say, a model's), then ours.

    `given["stop"]` is one typed text with a stop string on each line, or a list of strings.
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
    return Sampling(**values, stop=parse_stop(given.get("stop")))


def parse_stop(given: object) -> tuple[str, ...]:
    """Return the stop strings: from typed text one on each line (escapes allowed), from a list as they are."""
    if isinstance(given, str):
        lines = [unescape(line) for line in plain_text(given).split("\n")]
    elif given is None or isinstance(given, list | tuple):
        lines = list(given or ())
    else:
        lines = [given]
    if not all(isinstance(line, str) for line in lines):
        raise Refusal("stop must be a list of strings, not {kind}.", "stop", kind=type(given).__name__)
    stops = tuple(dict.fromkeys(line for line in lines if line))
    if len(stops) > MAX_STOPS:
        raise Refusal(
            "stop takes at most {limit} strings, one on a line, not {given}.", "stop", limit=MAX_STOPS, given=len(stops)
        )
    for line in stops:
        if re.search("[\ud800-\udfff]", line):
            raise Refusal("stop strings must be text that UTF-8 can write.", "stop")
        if (size := len(line.encode("utf-8", "replace"))) > MAX_STOP_BYTES:
            raise Refusal(
                "stop strings have at most {limit} bytes; one of yours has {size}.",
                "stop",
                limit=MAX_STOP_BYTES,
                size=size,
            )
    return stops
