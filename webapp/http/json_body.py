"""The JSON body of a request, field by field; each refusal is a sentence that names the field."""

import re

from flask import request

from generate import LISTS, OPTIONS, Refusal

KEY = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
REQUIRED = object()
FIELDS = {"model", "preset", "parse_special", *(option.name for option in OPTIONS + LISTS)}  # of the form


class Body:
    """A JSON object."""

    def __init__(self, fields: dict):
        self._fields = fields

    @classmethod
    def read(cls) -> "Body":
        """That of this request; raises Refusal when it is no JSON object."""
        try:
            found = request.get_json(silent=True)
        except RecursionError:  # thousands of lists within each other
            found = None
        if not isinstance(found, dict):
            raise Refusal("The request must be a JSON object.")
        return cls(found)

    def __contains__(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def whole(self, name: str, low: int = 0, default: object = REQUIRED) -> int:
        """A whole number from `low` up to eight digits."""
        value = self._fields.get(name)
        if value is None and default is not REQUIRED:
            return default
        return whole(name, value, low)

    def string(self, name: str, default: object = REQUIRED) -> str:
        """A text, with line breaks as they are counted here, and no half of a character."""
        value = self._fields.get(name)
        if value is None and default is not REQUIRED:
            return default
        return plain(name, value)

    def key(self) -> str:
        """The request's own name, by which it is known when it comes again."""
        value = self._fields.get("key")
        if not isinstance(value, str) or not KEY.fullmatch(value):
            raise Refusal("key must be 16 to 64 letters, digits, - or _, not {text}.", "key", text=repr(value)[:60])
        return value

    def part(self, name: str) -> "Body | None":
        """An object within; None where there is none."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, dict):
            raise Refusal("{name} must be an object, not {text}.", name, name=name, text=repr(value)[:60])
        return None if value is None else Body(value)

    def strings(self, name: str) -> dict[str, str]:
        """An object of strings, as a form's fields are."""
        part = self.part(name)
        return {key: plain(key, value) for key, value in (part._fields if part else {}).items()}

    def options(self, part: str = "options") -> dict[str, str]:
        """The form's fields of a request; what is none of them is left out."""
        return {name: value for name, value in self.strings(part).items() if name in FIELDS}

    def edits(self) -> list[tuple[int, int, str]]:
        """A list of [place, characters taken out, text put in]."""
        value = self._fields.get("edits", [])
        if not isinstance(value, list) or not all(isinstance(one, list) and len(one) == 3 for one in value):
            raise Refusal("edits must be a list of [place, removed, text], not {text}.", "edits", text=repr(value)[:60])
        return [(whole("edits", at), whole("edits", out), plain("edits", text)) for at, out, text in value]


def whole(name: str, value: object, low: int = 0) -> int:
    """A value that must be a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or not (low <= value < 10**8):
        raise Refusal("{name} must be a whole number, not {text}.", name, name=name, text=repr(value)[:60])
    return value


def plain(name: str, value: object) -> str:
    """A value that must be a text."""
    if not isinstance(value, str):
        raise Refusal("{name} must be a text, not {text}.", name, name=name, text=repr(value)[:60])
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
