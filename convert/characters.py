"""nanoGPT's meta.pkl: a vocabulary of single characters. It is a pickle, and is never unpickled freely.

Source: karpathy/nanoGPT, data/shakespeare_char/prepare.py.
"""

import io
import pickle
from pathlib import Path

import tokenizers

from generate import Refusal, character_level, refuse_mistaken

FILE = "meta.pkl"
LARGEST = 16 * 2**20  # bytes; all of Unicode's characters take less
BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError),
    *(MemoryError, RecursionError),
)


class Plain(pickle.Unpickler):
    """Reads dictionaries, lists, texts and numbers. Whatever names a class or a function is refused before it is made, so
    nothing in a file can be run."""

    def find_class(self, module: str, name: str):
        """Nothing is found."""
        raise Refusal(
            "{file} holds {name:.80}, and nothing but dictionaries of characters is ever read of such a file.",
            file=FILE,
            name=f"{module}.{name}",
        )


def read_meta(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a meta.pkl; raises Refusal where its two dictionaries are not each other's inverse."""
    refuse_mistaken(file)
    if file.stat().st_size > LARGEST:
        raise Refusal(
            "{file} has more than {limit:,} bytes, which no list of characters needs.", file=file.name, limit=LARGEST
        )
    try:
        meta = Plain(io.BytesIO(file.read_bytes())).load()
    except Refusal:
        raise
    except BROKEN:
        raise Refusal("{file} cannot be read; copy it again.", file=file.name) from None
    ids, characters = (meta.get(name) for name in ("stoi", "itos")) if isinstance(meta, dict) else (None, None)
    if not is_vocabulary(ids) or not isinstance(characters, dict):
        raise Refusal("{file} holds no stoi and itos of single characters, as nanoGPT writes them.", file=file.name)
    inverse = {index: character for character, index in ids.items()}
    if characters != inverse or any(map(is_no_id, characters)) or sorted(characters) != [*range(len(ids))]:
        raise Refusal("{file}: its stoi and itos do not belong together; copy it again.", file=file.name)
    return character_level(ids)


def is_vocabulary(value: object) -> bool:
    """Whether something gives ids to characters, to one at least."""
    if not isinstance(value, dict) or not value:
        return False
    return all(map(is_character, value)) and not any(map(is_no_id, value.values()))


def is_no_id(value: object) -> bool:
    """Whether a value is no whole number; False is none, though it equals 0."""
    return type(value) is not int


def is_character(value: object) -> bool:
    """Whether a key is one character that UTF-8 can write."""
    return isinstance(value, str) and len(value) == 1 and not "\ud800" <= value <= "\udfff"
