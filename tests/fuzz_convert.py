"""A coverage-guided fuzzer for the index reader. It is no test of its own; run it as the README's section Develop says.

Checksums are taken as right, so that the fuzzer gets past them. A crash is any exception but Damaged and Refusal; a hang
or more memory than the input can stand for is noticed by atheris' own limits and by the assertions below.
"""

import contextlib
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["convert"]):
    from convert import bundle, snappy, table
    from convert.proto import Damaged
    from convert.to_tensorflow import table as write_table
    from generate import Refusal

FIXTURES = Path(__file__).parent / "fixtures" / "tensorflow"


class Right(int):
    """A checksum that agrees with every other."""

    def __ne__(self, other) -> bool:
        return False

    __hash__ = int.__hash__


table.masked_crc = lambda data: Right()


def read(data: bytes) -> None:
    """Read an index, and check each variable against the numbers it claims."""
    found = bundle.parse(Path("x"), data)
    assert sum(len(name) for name in found.variables) <= 8 * table.GROWTH * len(data)
    for variable in found.variables.values():
        with contextlib.suppress(Refusal):
            bundle.check_shape(variable)


def one(data: bytes) -> None:
    way, rest = data[:1], data[1:]
    with contextlib.suppress(Damaged):
        if way < b"\x60":  # a whole file
            read(rest + table.MAGIC.to_bytes(8, "little"))
        elif way < b"\xc0":  # entries in a well-formed table
            source = atheris.FuzzedDataProvider(rest)
            pairs = {source.ConsumeBytes(source.ConsumeIntInRange(0, 40)): source.ConsumeBytes(60) for _ in range(8)}
            read(write_table(sorted({b"": b"\x08\x01", **pairs}.items())))
        else:
            assert len(snappy.decompress(rest)) <= snappy.MOST * max(1, len(rest))


def seeds() -> list[bytes]:
    """Real indexes to begin with, as files and as snappy blocks."""
    files = [file.read_bytes() for file in sorted(FIXTURES.glob("*/*.index"))]
    return [b"\0" + data[:-8] for data in files] + [b"\xff" + data[:400] for data in files]


if __name__ == "__main__":
    corpus = Path(sys.argv[-1])
    if not corpus.is_dir():
        sys.exit("usage: python tests/fuzz_convert.py [-runs=1000000] FOLDER   (an empty folder, for what it finds)")
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
