"""A GGUF of the gpt2 architecture, as llama.cpp and its friends read it, in any of its types: full, half, or quantised.

Source: ggml-org/ggml, docs/gguf.md. The file is read by the gguf package; whatever it says is checked as of any checkpoint.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import AddedToken

from convert.gguf_names import TURNED, from_gguf_name
from convert.held import Held, Tensor, hold
from convert.pytorch import openai_name
from convert.vocabulary import Bpe
from generate import Refusal, byte_level, refuse_mistaken

MAGIC = b"GGUF"
PLAIN = {"F32": "float32", "F16": "float16", "F64": "float64"}
TOLD = {  # keys after the architecture's name, and what config.json calls them
    "context_length": "n_positions",
    "embedding_length": "n_embd",
    "block_count": "n_layer",
    "attention.head_count": "n_head",
    "feed_forward_length": "n_inner",
    "attention.layer_norm_epsilon": "layer_norm_epsilon",
}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # kinds of tokens
BROKEN = (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AttributeError, NotImplementedError)


def read(file: Path):
    """The gguf package's reader of a file, which maps it; raises Refusal where that is no GGUF, or damaged."""
    return opened(file, file.stat().st_mtime_ns)


@lru_cache(1)  # it is asked again for each fact
def opened(file: Path, _mtime_ns: int):
    """As `read`, of a file of this time."""
    from gguf import GGUFReader

    refuse_mistaken(file)
    with file.open("rb") as stream:
        magic = stream.read(4)
    if magic != MAGIC:
        raise Refusal("{file} is no GGUF: it does not begin as one.", file=file.name)
    try:
        return GGUFReader(file)
    except BROKEN as error:
        raise damaged(file, error) from None


def damaged(file: Path, error: Exception) -> Refusal:
    """What is said of a file that the package cannot read."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)[:100]
    return Refusal("{file} cannot be read as GGUF ({reason}); copy it again.", file=file.name, reason=reason)


def value_of(file: Path, key: str) -> object:
    """One of the file's facts, None where it does not tell; raises Refusal."""
    field = read(file).fields.get(key)
    try:
        return None if field is None else field.contents()
    except BROKEN as error:
        raise damaged(file, error) from None


def open_gguf(file: Path) -> Held:
    """The tensors and sizes of a file; raises Refusal for another architecture, or a type that cannot be read."""
    architecture = value_of(file, "general.architecture")
    if architecture != "gpt2":
        raise Refusal(
            "{file} is of the architecture {kind!r:.40}, not gpt2; only GPT-2s can be served here.",
            file=file.name,
            kind=architecture,
        )
    told = {ours: value_of(file, f"gpt2.{key}") for key, ours in TOLD.items()}
    told = {name: plain(value) for name, value in told.items() if value is not None}
    told["activation_function"] = "gelu_new"
    try:
        tensors = {openai_name(from_gguf_name(tensor.name)): tensor_of(tensor) for tensor in read(file).tensors}
    except BROKEN as error:
        raise damaged(file, error) from None
    return hold(file, tensors, told)


def plain(value: object) -> object:
    """A fact as JSON has it: what was float32 in the shortest way to write that, such as 1e-05."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def tensor_of(tensor) -> Tensor:
    """One of the reader's tensors, its matrix turned to [in, out] as `transformers` has it; what is quantised in float32."""
    from gguf.quants import dequantize

    kind = tensor.tensor_type.name
    data = tensor.data if kind in PLAIN else dequantize(tensor.data, tensor.tensor_type)
    data = data.T if tensor.name.endswith(TURNED) and data.ndim == 2 else data
    data = np.ascontiguousarray(data)
    return Tensor(PLAIN.get(kind, "float32"), data.shape, data.reshape(-1).view(np.uint8))


def gguf_vocabulary(file: Path) -> Bpe:
    """The byte-level BPE in a file, with its special tokens; raises Refusal for a vocabulary of another kind."""
    kind, cut = value_of(file, "tokenizer.ggml.model"), value_of(file, "tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in (None, "gpt-2", "default"):
        raise Refusal(
            "{file} has a vocabulary of the kind {kind!r:.40}, which cuts texts another way than GPT-2's; bring the model's own "
            "with --vocab.",
            file=file.name,
            kind=cut if kind == "gpt2" else kind,
        )
    tokens, merges = value_of(file, "tokenizer.ggml.tokens"), value_of(file, "tokenizer.ggml.merges")
    kinds = value_of(file, "tokenizer.ggml.token_type")
    kinds = [NORMAL] * len(tokens) if kinds is None and isinstance(tokens, list) else kinds
    told = is_list(tokens, str) and is_list(merges, str) and is_list(kinds, int)
    if not told or not tokens or len(kinds) != len(tokens):
        raise Refusal("{file} lacks a part of its vocabulary; bring the model's own with --vocab.", file=file.name)
    normal = {token: index for index, token in enumerate(tokens) if kinds[index] == NORMAL}
    special = {tokens[index]: index for index, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    if any(len(pair) != 2 for pair in pairs):
        raise Refusal("{file} has merges that are none; bring the model's own with --vocab.", file=file.name)
    tokenizer = byte_level(normal | special, pairs)
    for token, index in special.items():
        added = AddedToken(token, special=kinds[index] == CONTROL, normalized=False)
        (tokenizer.add_special_tokens if kinds[index] == CONTROL else tokenizer.add_tokens)([added])
    return Bpe(tokenizer, file.name)


def is_list(value: object, kind: type) -> bool:
    """Whether a fact is a list of one kind of values."""
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def gguf_ends(file: Path) -> dict[str, int]:
    """The tokens that begin and end texts, by the names of config.json, as far as they are told."""
    keys = {"bos_token_id": "tokenizer.ggml.bos_token_id", "eos_token_id": "tokenizer.ggml.eos_token_id"}
    found = {name: value_of(file, key) for name, key in keys.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}
