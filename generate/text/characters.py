"""How much of a growing byte string is whole characters."""

import codecs


class CharacterGate:
    """Follows a growing byte string and says how much of it is whole characters.

    The text of a prefix that ends where `pending` is 0 is the same whatever follows, so it may be shown.
    Bytes that are not UTF-8 decode as U+FFFD, as `bytes.decode(errors="replace")` does.
    """

    def __init__(self):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = 0  # bytes of a character that is not whole yet

    def __copy__(self) -> "CharacterGate":
        other = CharacterGate()
        other._decoder.setstate(self._decoder.getstate())
        other._waiting = self._waiting
        return other

    def decode(self, data: bytes, final: bool = False) -> str:
        """Take more bytes; return the characters that are whole by now. With `final`, a half one at the end is U+FFFD."""
        text = self._decoder.decode(data, final)
        self._waiting = len(self._decoder.getstate()[0])
        return text

    def feed(self, data: bytes) -> int:
        """Take more bytes; return how many at the end wait for the rest of their character (0 to 3)."""
        if self._waiting or not data.isascii():  # else nothing of it can be a half character, and most tokens are so
            self.decode(data)
        return self._waiting


def split_half_character(data: bytes) -> tuple[bytes, bytes]:
    """Cut `data` into whole characters and the half character it ends in (b"" where it ends well)."""
    pending = CharacterGate().feed(data)
    return data[: len(data) - pending], data[len(data) - pending :]
