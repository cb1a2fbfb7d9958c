"""What a page says of a run's preset, and what it fills in where the run is edited."""

from collections.abc import Mapping

from generate import BY_PRESET, LISTS, OPTIONS, PRESETS, Preset

OWN = PRESETS[0]  # the model's
USUAL = {o.name: list(o.default) if isinstance(o.default, tuple) else o.default for o in OPTIONS + LISTS}
ON_PAGE = {option.name: option.on_page for option in OPTIONS if option.on_page is not None}
COMMON = frozenset(option.name for option in OPTIONS if not option.more)


def preset_of(options: Mapping) -> Preset | None:
    """The preset that a run was started with; None where none was chosen, or where there is none of this name any more."""
    return BY_PRESET.get(options.get("preset"))


def told_preset(options: Mapping, defaults: Mapping | None) -> tuple[str, list[tuple[str, float]]] | None:
    """The preset's title, and (name, value) of what differs from it as it is now; None where no preset is known.

    `defaults` are those of the run's model, None where it is not here: what differs from its own is then not known.
    """
    preset = preset_of(options)
    if preset is None:
        return None
    unknown = preset is OWN and defaults is None
    return preset.title, [] if unknown else preset.differing(options, defaults or {})


def when_empty(preset: Preset, defaults: Mapping[str, float]) -> dict[str, object]:
    """What each field of the form stands for while it is empty, for a model with these defaults."""
    return USUAL | ON_PAGE | preset.over(defaults)


def as_meant(fields: Mapping[str, str | None]) -> dict[str, object]:
    """The form's fields as they are meant: one that is there and was left empty may stand for something on the page.

    One that is missing was not left empty by anybody: whoever sends no such field is not asked.
    """
    left = {name: value for name, value in ON_PAGE.items() if fields.get(name) is not None and not fields[name].strip()}
    return {**fields, **left}


def to_fill_in(options: Mapping, defaults: Mapping[str, float]) -> dict[str, object]:
    """The fields that bring a run's options back: its preset, and what an empty field would not mean.

    A run without a preset is told of with all options that most people know.
    """
    preset = preset_of(options)
    empty = when_empty(preset or OWN, defaults)
    asked = {name: options.get(name, USUAL[name]) for name in USUAL}
    found = {k: v for k, v in asked.items() if v != empty[k] or (preset is None and k in COMMON)}
    return found | ({"preset": preset.name} if preset else {})


def to_write_on(options: Mapping, defaults: Mapping[str, float]) -> dict[str, object]:
    """The fields with which somebody goes on from a run: with another seed, and the usual length if it was only read."""
    return {
        name: "\n".join(map(typed, value)) if isinstance(value, list) else value
        for name, value in to_fill_in(options, defaults).items()
        if name != "seed" and (name, value) != ("max_new_tokens", 0)
    }


def typed(line: str) -> str:
    """A string of a list as a person types it on one line."""
    return line.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
