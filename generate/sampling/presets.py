"""Presets: ways to choose the next token that have a name, in one table for page, terminal and tests.

What a person typed comes before the chosen preset, that before a model's own defaults, those before ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from generate.errors import Refusal
from generate.sampling.lists import short
from generate.sampling.options import BY_NAME, OPTIONS, Sampling, parse_sampling

# A preset says how a token is chosen, not how many, after what, how often or with which luck.
OTHERS = ("max_new_tokens", "min_new_tokens", "end_at_sentence", "n_keep", "samples", "seed")
SHAPING = tuple(option.name for option in OPTIONS if option.name not in OTHERS)
OFF = {name: BY_NAME[name].default for name in SHAPING} | {"top_k": 0}


@dataclass(frozen=True)
class Preset:
    """A `name` for forms and links, a `title` for people, one plain sentence, and the options it sets.

    It sets either all of SHAPING, so that no default of a model's leaks into it, or none.
    """

    name: str
    title: str
    meaning: str
    options: Mapping[str, float]

    def over(self, defaults: Mapping[str, float]) -> dict[str, float]:
        """What options are that nobody typed, for a model with these `defaults`: theirs, but for what the preset sets."""
        return {**defaults, **self.options}

    def differing(self, options: Mapping, defaults: Mapping[str, float]) -> list[tuple[str, float]]:
        """(name, value) of each of a run's `options` that shapes the choice and is another than here."""
        usual = self.over(defaults)
        wanted = ((name, usual.get(name, BY_NAME[name].default)) for name in SHAPING)
        return [(name, options[name]) for name, value in wanted if name in options and options[name] != value]


PRESETS = (
    Preset(
        "model",
        "The model’s own",
        "The settings that come with the model; the usual ones where it brings none.",
        {},
    ),
    Preset(
        "careful",
        "Careful",
        "Keeps to what is likely: plain sentences that hold together, with few surprises.",
        OFF | {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1},
    ),
    Preset(
        "lively",
        "Lively",
        "Freer in its words and turns; only what makes little sense is left out.",
        OFF | {"temperature": 1.0, "min_p": 0.05, "presence_penalty": 0.3},
    ),
    Preset(
        "wild",
        "Wild",
        "Often passes over the obvious word for a strange one, and may lose the thread.",
        OFF | {"temperature": 1.2, "min_p": 0.03, "xtc_probability": 0.5, "xtc_threshold": 0.1},
    ),
    Preset(
        "steady",
        "Steady",
        "Against going in circles: what would repeat a stretch of the text becomes unlikely.",
        OFF
        | {"temperature": 0.8, "min_p": 0.05, "repetition_penalty": 1.1}
        | {
            "dry_multiplier": 0.8,
            "dry_base": 1.75,
            "dry_allowed_length": 2,
            "dry_range": int(BY_NAME["dry_range"].high),
        },
    ),
)
BY_PRESET = {preset.name: preset for preset in PRESETS}


def find_preset(name: object) -> Preset:
    """The preset of this name; raises Refusal."""
    if not isinstance(name, str) or (found := BY_PRESET.get(name.strip())) is None:
        raise Refusal(
            "preset must be one of these: {names}; not {given}.",
            "preset",
            names=", ".join(BY_PRESET),
            given=short(name),
        )
    return found


def parse_with_preset(given: Mapping[str, object], defaults: Mapping[str, float]) -> Sampling:
    """`parse_sampling` where a person may have chosen a preset besides: the run then knows its name.

    `defaults` are the model's. Raises Refusal.
    """
    if given.get("preset") in (None, ""):
        return parse_sampling(given, defaults)
    preset = find_preset(given["preset"])
    return replace(parse_sampling(given, preset.over(defaults)), preset=preset.name)
