"""The way to llama.cpp, LM Studio, Ollama, KoboldCpp: a model folder as one GGUF file, in f16 or q8_0.

Matrices are written in the type that is asked for, norms and biases and positions in float32, as llama.cpp's own
converter has it. Source: ggml-org/llama.cpp, convert_hf_to_gguf.py, `GPT2Model`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

from convert.from_gguf import CONTROL, NORMAL, UNUSED, USER_DEFINED
from convert.gguf_names import TURNED, to_gguf_name
from convert.places import HEAD, has_head, parts_of, tensor_places
from convert.vocabulary import Bpe, find_vocabulary
from generate import ModelFolder, Refusal, is_lossless, merges_of, sync, tensor_shapes

TYPES = ("f16", "q8_0")
BLOCK = 32  # numbers that share a scale in q8_0
HALF = 65_504  # the largest number of float16


def to_gguf(folder: ModelFolder, target: Path, kind: str, progress: Callable[[int], None] = lambda size: None) -> None:
    """Write `target` whole or not at all; raises Refusal where llama.cpp would compute or read something else."""
    from gguf import GGUFWriter

    check_graph(folder)
    bpe = byte_level_of(folder)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        writer = GGUFWriter(part, "gpt2")
        add_sizes(writer, folder, kind)
        add_vocabulary(writer, folder, bpe)
        for name, data, raw in tensors_of(folder, kind):
            writer.add_tensor(name, data, raw_dtype=raw)
            progress(data.nbytes)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        sync(part)
        part.replace(target)
        sync(target.parent)
    except OSError as error:
        raise Refusal("{path} cannot be written: {reason}.", path=target, reason=error.strerror or error) from None
    finally:
        part.unlink(missing_ok=True)


def check_file(target: Path, force: bool) -> None:
    """Raise Refusal where `target` cannot be the file to write."""
    if target.is_dir() or target.suffix != ".gguf":
        raise Refusal("{path} is no name for a GGUF; give a file that ends in .gguf.", path=target)
    if target.exists() and not force:
        raise Refusal("{path} exists already; choose another name, or add --force to replace it.", path=target)
    if not target.parent.is_dir():
        raise Refusal("There is no folder {folder} to put {name} into.", folder=target.parent, name=target.name)


def check_graph(folder: ModelFolder) -> None:
    """Raise Refusal where llama.cpp's graph of gpt2, which knows nothing of these settings, would compute other numbers."""
    c = folder.config
    plain = c.activation in ("gelu_new", "gelu_pytorch_tanh")
    for name, given, wanted in (
        ("activation_function", c.activation, c.activation if plain else "gelu_new"),
        ("scale_attn_weights", c.scale_attention, True),
        ("scale_attn_by_inverse_layer_idx", c.scale_by_layer, False),
    ):
        if given != wanted:
            raise Refusal(
                "{model} has {name} {given!r}, where llama.cpp's GPT-2 has {wanted!r}: as a GGUF it would be another model.",
                model=folder.name,
                name=name,
                given=given,
                wanted=wanted,
            )


def byte_level_of(folder: ModelFolder) -> Bpe:
    """The folder's vocabulary; raises Refusal where llama.cpp, by the name gpt-2, would cut texts another way."""
    bpe = find_vocabulary(folder.path, folder.config.vocab_size, folder.name)
    if bpe is not None and bpe.is_bert:
        raise Refusal(
            "{model} has BERT's vocabulary, and llama.cpp ends every prompt of such a model with [SEP]: as a GGUF it would begin "
            "another text instead of going on with yours.",
            model=folder.name,
        )
    cutter = bpe and bpe.tokenizer.pre_tokenizer
    plain = isinstance(cutter, pre_tokenizers.ByteLevel) and bpe.tokenizer.normalizer is None
    if not plain or not is_lossless(bpe.tokenizer) or cutter.add_prefix_space:
        raise Refusal(
            "{model} cuts texts another way than GPT-2's own tokenizer, which is the only one that a GGUF of a GPT-2 can name.",
            model=folder.name,
        )
    return bpe


def add_sizes(writer, folder: ModelFolder, kind: str) -> None:
    """What config.json says, in GGUF's names."""
    from gguf import LlamaFileType

    c = folder.config
    writer.add_name(folder.name)
    writer.add_block_count(c.n_layer)
    writer.add_context_length(c.n_positions)
    writer.add_embedding_length(c.n_embd)
    writer.add_feed_forward_length(c.n_inner)
    writer.add_head_count(c.n_head)
    writer.add_layer_norm_eps(c.layer_norm_epsilon)
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if kind == "f16" else LlamaFileType.MOSTLY_Q8_0)


def add_vocabulary(writer, folder: ModelFolder, bpe: Bpe) -> None:
    """Tokens with their kinds, merges, and the tokens that end a text; rows without a token are padding."""
    count = folder.config.vocab_size
    tokens, kinds = [f"[PAD{index}]" for index in range(count)], [UNUSED] * count
    added = bpe.tokenizer.get_added_tokens_decoder()
    for token, index in bpe.tokenizer.get_vocab(with_added_tokens=True).items():
        kind = NORMAL if index not in added else CONTROL if added[index].special else USER_DEFINED
        tokens[index], kinds[index] = token, kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in merges_of(bpe.model)])
    writer.add_add_bos_token(folder.begin_id is not None)
    begin = folder.end_id if folder.begin_id is None else folder.begin_id
    if begin is not None:
        writer.add_bos_token_id(begin)
    if folder.end_id is not None:
        writer.add_eos_token_id(folder.end_id)


def tensors_of(folder: ModelFolder, kind: str) -> Iterator[tuple[str, np.ndarray, object]]:
    """Each tensor by its name there, in the type that it is written in; the last is that type where it is quantised."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    places = tensor_places(folder)
    shapes = tensor_shapes(folder.config)
    if has_head(places):
        shapes[HEAD] = shapes["wte.weight"]
    else:
        shapes.pop(HEAD, None)
    for name, shape in shapes.items():
        data = np.concatenate([*parts_of(places.get(name), shape)]).view("<f4").reshape(shape)
        new = to_gguf_name(name)
        data = np.ascontiguousarray(data.T) if new.endswith(TURNED) else data
        if data.ndim < 2 or name == "wpe.weight":
            yield new, data, None
        elif kind == "q8_0" and data.shape[-1] % BLOCK == 0:
            yield new, quantize(data, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0
        elif not np.abs(data).max() <= HALF:
            raise Refusal("{name} holds numbers too large for float16.", name=name)
        else:
            yield new, data.astype(np.float16), None
