"""The JSON files of a model's folder, and the kind of number that most of their fields hold."""

import json
from pathlib import Path

from generate.errors import Refusal


def read_json(path: Path, name: str, optional: bool = False) -> dict:
    file = path / name
    if optional and not file.exists():
        return {}
    if not file.is_file():
        raise Refusal("{model}: {name} is missing; copy it from where the model came from.", model=path.name, name=name)
    try:
        value = json.loads(file.read_text("utf-8"))
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
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end
