"""In which encoding bytes were written that are no UTF-8, as charset_normalizer judges a sample of them."""

import codecs

SAMPLE = 2**14  # bytes
# Of encodings that are equally likely, the first: what most files are in. None of them has ISO 8859's control characters.
KNOWN = (
    *("cp1252", "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1251", "cp1250", "cp1253"),
    *("cp1254", "cp1255", "cp1256", "koi8_r", "mac_roman", "cp437"),
)
WIDE = ("utf_16_le", "utf_16_be")  # with a NUL in every line feed, space and Latin letter
CONTROL = frozenset(map(chr, (*range(9), 11, *range(14, 32), *range(0x7F, 0xA0))))  # in no text that people write


def guess_encoding(data: bytes, at: int = 0) -> tuple[str, str] | None:
    """The likeliest encoding of the text around byte `at`, and how the line with it reads; None where none is likely."""
    from charset_normalizer import from_bytes  # 50 ms, and seldom needed

    sample, at = sample_of(data, at)
    if is_utf8(sample):
        return "utf-8", excerpt(sample, at, "utf-8")
    known = WIDE if b"\0" in sample else KNOWN
    found = from_bytes(sample, cp_isolation=list(known), threshold=0.5, enable_fallback=False)
    scores = {name: (m.chaos, -m.coherence) for m in found for name in m.could_be_from_charset if name in known}
    for name in sorted(scores, key=lambda name: (scores[name], known.index(name))):
        if CONTROL.isdisjoint(sample.decode(name)):
            return name.replace("_", "-"), excerpt(sample, at, name)
    return None


def is_utf8(sample: bytes) -> bool:
    """Whether there are characters in it that are not ASCII and all are UTF-8; the last may be cut."""
    try:
        return not codecs.getincrementaldecoder("utf-8")().decode(sample).isascii()
    except UnicodeDecodeError:
        return False


def excerpt(sample: bytes, at: int, encoding: str) -> str:
    """Up to 40 characters of the line with byte `at`."""
    at &= ~1  # where a character of UTF-16 begins
    before, after = sample[:at].decode(encoding, "ignore"), sample[at:].decode(encoding, "ignore")
    return (before.rsplit("\n", 1)[-1][-20:] + after.split("\n", 1)[0][:20]).strip()


def sample_of(data: bytes, at: int) -> tuple[bytes, int]:
    """Some lines of `data` from that of byte `at` on, of whole characters in any encoding, and where in them `at` is."""
    wide = b"\0" in data[: at + SAMPLE]  # of UTF-16 a line feed is two bytes
    start = 0 if wide else data.rfind(b"\n", 0, at) + 1
    if at - start > SAMPLE // 2:
        start = (at - SAMPLE // 2) & ~3
    end = start + SAMPLE
    if end < len(data) and not wide:
        end = max(data.rfind(space, at, end) for space in b" \n,.") + 1 or end
    return data[start:end], at - start
