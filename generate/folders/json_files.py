"""The JSON files of a model's folder, and the kind of number that most of their fields hold."""

from pathlib import Path

from generate.errors import Refusal
from generate.text.bpe import read_object


def read_json(path: Path, name: str, optional: bool = False) -> dict:
    """The object in one file of a model's folder; {} where an `optional` file is missing. Raises Refusal."""
    file = path / name
    if optional and not file.exists():
        return {}
    if not file.is_file():
        raise Refusal("{model}: {name} is missing; copy it from where the model came from.", model=path.name, name=name)
    try:
        return read_object(file)
    except Refusal as refusal:
        raise Refusal("{model}: {reason}", model=path.name, reason=refusal) from None


def is_index(value: object, end: int) -> bool:
    """Whether a value from JSON is a whole number from 0 to `end` - 1; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end
