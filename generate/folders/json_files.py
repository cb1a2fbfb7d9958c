"""The JSON files of a model's folder, and the kind of number that most of their fields hold."""

import json
from pathlib import Path

from generate.errors import Refusal
from generate.mistaken import mistake
from generate.text.incoming import read_text


def read_json(path: Path, name: str, optional: bool = False) -> dict:
    """The object in one file of a model's folder; {} where an `optional` file is missing. Raises Refusal."""
    file = path / name
    if optional and not file.exists():
        return {}
    if not file.is_file():
        raise Refusal("{model}: {name} is missing; copy it from where the model came from.", model=path.name, name=name)
    if (instead := mistake(file)) is not None:
        raise Refusal("{model}: {name} {mistake}", model=path.name, name=name, mistake=instead)
    try:
        value = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            "{model}: {name} is not JSON ({reason}); copy it again.", model=path.name, name=name, reason=error
        ) from None
    if not isinstance(value, dict):
        raise Refusal(
            "{model}: {name} must hold a JSON object, not a {kind}.",
            model=path.name,
            name=name,
            kind=type(value).__name__,
        )
    return value


def is_index(value: object, end: int) -> bool:
    """Whether a value from JSON is a whole number from 0 to `end` - 1; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end
