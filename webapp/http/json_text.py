"""JSON as it is sent: letters as they are, and halves of surrogate pairs, which UTF-8 does not have, as escapes."""

import json
from typing import Any

from flask.json.provider import DefaultJSONProvider


def json_text(value: object) -> str:
    """JSON that any UTF-8 can carry."""
    return carried(json.dumps(value, ensure_ascii=False))


def carried(text: str) -> str:
    """JSON in which such halves are escapes: they stand in its strings alone, as somebody sent them so."""
    return text.encode("utf-8", "backslashreplace").decode()


class Provider(DefaultJSONProvider):
    """What Flask answers with."""

    sort_keys = ensure_ascii = False

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """See `carried`."""
        return carried(super().dumps(obj, **kwargs))
