"""How text comes in, wherever it is from: decoded, without its byte order mark, and with \\n for every line ending."""

import codecs
import io
import re
from pathlib import Path

from generate.errors import Problem, Refusal
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
            raise self._holds_nul(block, at, self._line_of(block, at))
        try:
            text = self._decoder.decode(block, last)
        except UnicodeDecodeError as error:
            raise Refusal(
                "{name}, line {line}: byte 0x{byte:02x} is not {encoding}; {advice}",
                name=self._name,
                line=self._line_of(error.object, error.start),
                byte=error.object[error.start],
                encoding=self._encoding,
                advice=self._advice(error.object, error.start),
            ) from None
        except UnicodeError as error:
            raise Refusal(
                "{name} is not {encoding} ({reason}).", name=self._name, encoding=self._encoding, reason=error
            ) from None
        if self._is_wide and (before := text.find("\0")) >= 0:
            raise self._holds_nul(block, 0, self._line + text.count("\n", 0, before))
        if not self._encoding.startswith("utf") and (found := C1.search(text)):
            at = max(0, block.find(bytes([ord(found[0])])))
            raise Refusal(
                "{name}, line {line}: in {encoding} it has a control character, U+{code:04X}; {advice}",
                name=self._name,
                line=self._line_of(block, at),
                encoding=self._encoding,
                code=ord(found[0]),
                advice=self._advice(block, at),
            )
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

    def _line_of(self, data: bytes, at: int) -> int:
        return self._line + plain_text(data[:at].decode(self._encoding, "replace")).count("\n")

    def _holds_nul(self, data: bytes, at: int, line: int) -> Refusal:
        guess = guess_encoding(data, at)
        if guess is None or guess[0] == self._encoding:
            return Refusal(
                "{name} looks like a binary file (line {line}: it has NUL bytes).", name=self._name, line=line
            )
        return Refusal(
            "{name}, line {line}: it has NUL bytes; {advice}",
            name=self._name,
            line=line,
            advice=self._to_do(*guess),
        )

    def _advice(self, data: bytes, at: int) -> Problem:
        """What to do about bytes that are of another encoding, by what they look like in it."""
        told = data[:at].decode(self._encoding, "replace")
        rest = data[at : at + SAMPLE].decode("utf-8", "replace")
        right = self._foreign + len(re.findall("[^\0-\x7f\ufffd]", told + rest))
        if self._encoding == "utf-8" and right > rest.count("\ufffd"):
            return Problem("the rest is UTF-8: correct that place.")
        guess = guess_encoding(data, at)
        if guess is not None and guess[0] != self._encoding:
            return self._to_do(*guess)
        if self._option:
            return Problem("save the file as UTF-8, or give {option} and what it is in.", option=self._option)
        return Problem("save it as UTF-8.")

    def _to_do(self, guess: str, reads: str) -> Problem:
        if self._option:
            return Problem(
                "it reads like {guess} (\u201c{reads}\u201d): save the file as UTF-8, or give {option} {guess}.",
                guess=guess,
                reads=reads,
                option=self._option,
            )
        return Problem(
            "it reads like {guess} (\u201c{reads}\u201d): save it as UTF-8, for instance with iconv -f {guess} -t utf-8.",
            guess=guess,
            reads=reads,
        )
