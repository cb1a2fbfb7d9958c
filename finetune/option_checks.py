"""From what a person or a run.json says to the options of a training: checked, and agreeing with one another."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from finetune.options import CHOICES, LIMITS, Options, flag
from finetune.presets import PRESETS
from generate import Refusal

EARLIER = {"shuffle": "windows", "weight_decay": "0"}  # what these were before they were options, or text
MAY_DIFFER = ("evaluate_every", "sample_every", "sample_prompt", "sample_length", "save_every", "log_every", "keep")


def make_options(given: Mapping[str, Any], preset: str = "", before: Options | None = None) -> Options:
    """Options from a command line: what is given, else what the preset says, else the defaults.

    With `before`, the options of a training that is resumed, only what does not change its outcome may differ.
    Raises Refusal that names the option, its limit and the value.
    """
    if preset and preset not in PRESETS:
        raise Refusal("--preset {preset!r} is unknown; known are {known}.", preset=preset, known=", ".join(PRESETS))
    for name, value in given.items():
        check(name, value)
    lengths = [name for name in ("steps", "epochs", "minutes") if given.get(name)]
    if len(lengths) > 1:
        one, other, *third = (f"{flag(name)} {given[name]:g}" for name in lengths)
        if third:
            raise Refusal("Give {one} or {other} or {third}, not both.", one=one, other=other, third=third[0])
        raise Refusal("Give {one} or {other}, not both.", one=one, other=other)
    chosen = PRESETS.get(preset, {}) | dict(given)
    if lengths in (["epochs"], ["minutes"]):
        chosen["steps"] = 0  # else a preset's steps would overrule them
    if before is None:
        return agreeing(replace(Options(), **chosen))
    for name, value in chosen.items():
        if name not in MAY_DIFFER and value != getattr(before, name):
            raise Refusal(
                "{option} was {before} when this training began, and cannot become {given} on the way.",
                option=flag(name),
                before=getattr(before, name),
                given=value,
            )
    return replace(before, **{name: value for name, value in given.items() if name in MAY_DIFFER})


def agreeing(options: Options) -> Options:
    """The options; raises Refusal where one asks for what another rules out."""
    if options.cooldown and options.schedule != "constant":
        raise Refusal(
            "--cooldown {cooldown} is for --schedule constant; {schedule} falls by itself.",
            cooldown=options.cooldown,
            schedule=options.schedule,
        )
    if options.ema and options.schedule == "constant" and not options.cooldown:
        raise Refusal(
            "--ema {ema} averages while the rate falls; --schedule constant needs a --cooldown for it.", ema=options.ema
        )
    if spread(options.weight_decay) and options.schedule == "constant" and not options.cooldown:
        raise Refusal(
            "--weight-decay {weight_decay} changes as the rate falls; --schedule constant needs a --cooldown for it.",
            weight_decay=options.weight_decay,
        )
    return options


def decay_of(text: str) -> tuple[float, float]:
    """'0.8:0' as the first and the last weight decay, '0.1' as two that are equal; raises Refusal."""
    low, high = LIMITS["weight_decay"]
    try:
        found = [float(part) for part in text.split(":")]
    except ValueError:
        found = []
    if len(found) not in (1, 2) or not all(low <= value <= high for value in found):
        raise Refusal(
            "--weight-decay must be a number from {low:g} to {high:g}, or two such as 0.8:0, not {given!r:.60}.",
            low=low,
            high=high,
            given=text,
        )
    return found[0], found[-1]


def spread(text: str) -> bool:
    """Whether a weight decay has two different ends."""
    first, last = decay_of(text)
    return first != last


def check(name: str, value: Any) -> None:
    """Raise Refusal unless one option's value is of its choices, within its limits, and UTF-8."""
    if name == "weight_decay":
        decay_of(value)
    elif name in LIMITS:
        low, high = LIMITS[name]
        if not (low <= value <= high):
            raise Refusal(
                "{option} must be from {low:,} to {high:,}, not {given}.",
                option=flag(name),
                low=low,
                high=high,
                given=value,
            )
    if isinstance(value, str) and not is_unicode(value):
        raise Refusal("{option} is not UTF-8: {given!a:.80}.", option=flag(name), given=value)
    if name in CHOICES and value not in CHOICES[name]:
        raise Refusal(
            "{option} must be one of {choices}, not {given!r}.",
            option=flag(name),
            choices=", ".join(CHOICES[name]),
            given=value,
        )


def is_unicode(text: str) -> bool:
    """False for bytes of a command line that were no UTF-8; Python makes them halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def as_options(stored: Mapping[str, Any]) -> Options:
    """Options from a run.json; of one that an earlier version wrote, what that version did."""
    kinds = get_type_hints(Options)
    known = EARLIER | {name: value for name, value in stored.items() if name in kinds}
    if isinstance(decay := known["weight_decay"], int | float):
        known["weight_decay"] = f"{decay:g}"
    for name, value in known.items():
        if not isinstance(value, int | float if kinds[name] is float else kinds[name]):
            raise Refusal(
                "{option} in run.json is {given!r:.60}, which is damage; begin anew with --force.",
                option=flag(name),
                given=value,
            )
        check(name, value)
    return Options(**known)
