"""How text comes in, by whatever door: decoded, without its byte order mark, and with \\n for every line ending."""

import codecs
import io
import re
from pathlib import Path

from generate.errors import Refusal
from generate.text.guess import SAMPLE, guess_encoding

MARK = "\ufeff"
MARKS = (  # the longer first: UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LONGEST_MARK = 4  # bytes
WIDE = ("utf-16", "utf-32")
C1 = re.compile("[\x80-\x9f]")  # control characters that no text holds; ISO 8859 has them where others have letters

UNDECODABLE = "{name}, line {line}: byte 0x{byte:02x} is not {encoding}; {advice}"
CONTROL = "{name}, line {line}: in {encoding} it has a control character, U+{code:04X}; {advice}"
NUL = "{name}, line {line}: it has NUL bytes; {advice}"
BINARY = "{name} looks like a binary file (line {line}: it has NUL bytes)."
ADVICE = (
    "it reads like {guess} (\u201c{reads}\u201d): save it as UTF-8, for instance with iconv -f {guess} -t utf-8.",
    "it reads like {guess} (\u201c{reads}\u201d): save the file as UTF-8, or give {option} {guess}.",
)
OTHERWISE = ("save it as UTF-8.", "save the file as UTF-8, or give {option} and the encoding that it is in.")


def plain_text(text: str) -> str:
    r"""Text that somebody else decoded, as it is kept here: \r\n and \r are \n, and a byte order mark is no part of it."""
    return text.removeprefix(MARK).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(data: bytes, name: str) -> str:
    """The text of `data`: UTF-8, or what its byte order mark says. Raises Refusal, as TextDecoder does."""
    return TextDecoder(name).decode(data, last=True)


def read_text(file: Path) -> str:
    """The text of a small file of UTF-8, or of what its byte order mark says. Raises Refusal and OSError."""
    return decode_text(file.read_bytes(), file.name)


class TextDecoder:
    r"""From bytes to text, block after block; a \r at the end of a block waits for its \n.

    A byte order mark outranks `encoding`; UTF-16 without one is little-endian. `name` is what a refusal calls the source,
    and `option` is the one that names an encoding, where there is such an option. Raises Refusal with the line for what
    does not decode, for NUL, and for control characters that an encoding makes of another one's letters.
    """

    def __init__(self, name: str, encoding: str = "utf-8", option: str = ""):
        self._name, self._encoding, self._option = name, codecs.lookup(encoding).name, option
        self._decoder: io.IncrementalNewlineDecoder | None = None
        self._head = b""
        self._line = 1
        self._foreign = 0  # characters so far that are not ASCII

    def decode(self, block: bytes, last: bool = False) -> str:
        """The text of the next block, of any size."""
        if self._decoder is None:
            self._head = block = self._head + block
            if len(block) < LONGEST_MARK and not last:
                return ""
            block = self._begin(block)
        if not self._is_wide and (at := block.find(b"\0")) >= 0:
            raise self._refusal(NUL, block, at)
        try:
            text = self._decoder.decode(block, last)
        except UnicodeDecodeError as error:
            raise self._refusal(UNDECODABLE, error.object, error.start, byte=error.object[error.start]) from None
        except UnicodeError as error:
            raise Refusal(
                "{name} is not {encoding} ({reason}).", name=self._name, encoding=self._encoding, reason=error
            ) from None
        if self._is_wide and "\0" in text:
            raise self._refusal(NUL, block, 0)
        if not self._encoding.startswith("utf") and (found := C1.search(text)):
            at = block.find(bytes([ord(found[0])]))
            raise self._refusal(CONTROL, block, max(0, at), code=ord(found[0]))
        self._line += text.count("\n")
        self._foreign += 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
        return text

    def _begin(self, head: bytes) -> bytes:
        """Look for a mark; returns what comes after it."""
        mark, encoding = next((pair for pair in MARKS if head.startswith(pair[0])), (b"", self._encoding))
        self._encoding = f"{encoding}-le" if encoding in WIDE else encoding
        self._is_wide = encoding.startswith(WIDE)
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(self._encoding)(), translate=True)
        return head[len(mark) :]

    def _refusal(self, message: str, data: bytes, at: int, **values: object) -> Refusal:
        line = self._line + plain_text(data[:at].decode(self._encoding, "replace")).count("\n")
        where = {"name": self._name, "line": line, "encoding": self._encoding}
        advice = self._advice(data, at)
        if message is NUL and "guess" not in advice.values:
            message = BINARY
        return Refusal(message, **where, **values, advice=advice)

    def _advice(self, data: bytes, at: int) -> Refusal:
        """What to do about bytes that are of another encoding, by what they look like in it."""
        told = data[:at].decode(self._encoding, "replace")
        rest = data[at : at + SAMPLE].decode("utf-8", "replace")
        wrong = rest.count("\ufffd")
        right = self._foreign + len(re.findall("[^\0-\x7f\ufffd]", told + rest))
        if self._encoding == "utf-8" and right > wrong:
            return Refusal("the rest is UTF-8: correct that place.")
        found = guess_encoding(data, at)
        if found is None or found[0] == self._encoding:
            return Refusal(OTHERWISE[bool(self._option)], option=self._option)
        return Refusal(ADVICE[bool(self._option)], guess=found[0], reads=found[1], option=self._option)
