"""The way back: a model folder into a TensorFlow checkpoint with OpenAI's names, bit by bit the same numbers.

Only stores what it must: float32, one data file, one index block, no compression; TensorFlow 1 and 2 read it.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import google_crc32c

from convert.names import to_tensorflow
from convert.places import has_head, parts_of, tensor_places
from convert.sizes import tensorflow_shapes
from convert.table import MAGIC, mask, masked_crc
from convert.vocabulary import Bpe, find_vocabulary, write_pair
from generate import ModelFolder, Refusal, in_place_of

RESTART = 16  # entries between two that are written whole
PREFIX = "model.ckpt"


def to_checkpoint(folder: ModelFolder, target: Path, progress: Callable[[int], None] = lambda size: None) -> None:
    """Write `target` with model.ckpt.*, checkpoint, hparams.json, and the vocabulary."""
    c = folder.config
    check_openai(folder)
    sizes = {"vocab_size": c.vocab_size, "n_positions": c.n_positions, "n_embd": c.n_embd, "n_layer": c.n_layer}
    with in_place_of(target) as part:
        entries = write_data(
            folder, part / f"{PREFIX}.data-00000-of-00001", tensorflow_shapes(sizes, c.n_inner), progress
        )
        (part / f"{PREFIX}.index").write_bytes(table([(b"", header()), *entries]))
        (part / "checkpoint").write_text(f'model_checkpoint_path: "{PREFIX}"\nall_model_checkpoint_paths: "{PREFIX}"\n')
        hparams = {"n_vocab": c.vocab_size, "n_ctx": c.n_positions, "n_embd": c.n_embd, "n_head": c.n_head}
        (part / "hparams.json").write_text(json.dumps(hparams | {"n_layer": c.n_layer}))
        if (bpe := find_vocabulary(folder.path, c.vocab_size, "")) is not None:
            write_beside(bpe, part)


def write_beside(bpe: Bpe, folder: Path) -> None:
    """Write a vocabulary as OpenAI's two files, or where it is none of GPT-2's kind as tokenizer.json, which we read there."""
    if bpe.is_byte_level:
        write_pair(bpe, folder / "encoder.json", folder / "vocab.bpe")
    else:
        bpe.tokenizer.save(str(folder / "tokenizer.json"))


def check_openai(folder: ModelFolder) -> None:
    """Raise Refusal where OpenAI's graph, which knows nothing of these settings, would compute other numbers."""
    c = folder.config
    refuse_other_head(folder)
    plain = {"n_inner": 4 * c.n_embd, "layer_norm_epsilon": 1e-5, "scale_attention": True, "scale_by_layer": False}
    if c.activation == "gelu_pytorch_tanh":  # the same function by another name
        c = dataclasses.replace(c, activation="gelu_new")
    for name, value in (plain | {"activation": "gelu_new"}).items():
        if getattr(c, name) != value:
            raise Refusal(
                "{model} has {name} {given!r}, where OpenAI's GPT-2 has {wanted!r}: as a TensorFlow checkpoint it would be "
                "another model.",
                model=folder.name,
                name=name,
                given=getattr(c, name),
                wanted=value,
            )


def refuse_other_head(folder: ModelFolder) -> None:
    """Raise Refusal where the head is not the embedding, as it always is in OpenAI's graph."""
    if has_head(tensor_places(folder)):
        raise Refusal(
            "{model} has a head of its own (lm_head.weight), where OpenAI's GPT-2 has its embedding: as a TensorFlow "
            "checkpoint it would be another model.",
            model=folder.name,
        )


def write_data(
    folder: ModelFolder, file: Path, shapes: dict, progress: Callable[[int], None]
) -> list[tuple[bytes, bytes]]:
    """Write the tensors one after another in the order of their names; return the index's entries."""
    names = {old: new for new, old in to_tensorflow(folder.config.n_layer).items()}
    places, entries, offset = tensor_places(folder), [], 0
    with file.open("wb") as out:
        for old in sorted(names):
            crc, length = 0, 0
            for chunk in parts_of(places.get(names[old]), shapes[old]):
                out.write(chunk)
                crc, length = google_crc32c.extend(crc, chunk), length + len(chunk)
                progress(len(chunk))
            entries.append((old.encode(), entry(shapes[old], offset, length, crc)))
            offset += length
        out.flush()
        os.fsync(out.fileno())
    return entries


def number(value: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(key: int, value: int | bytes) -> bytes:
    """A protobuf field; zero numbers are left out, as proto3 does."""
    if isinstance(value, bytes):
        return number(key << 3 | 2) + number(len(value)) + value
    return number(key << 3) + number(value) if value else b""


def header() -> bytes:
    """BundleHeaderProto: one data file, little-endian, version 1."""
    return field(1, 1) + field(3, field(1, 1))


def entry(shape: Iterable[int], offset: int, size: int, crc: int) -> bytes:
    """BundleEntryProto of a float32 tensor; the checksum is masked and of fixed width."""
    dims = b"".join(field(2, field(1, length)) for length in shape)
    return field(1, 1) + field(2, dims) + field(4, offset) + field(5, size) + b"\x35" + mask(crc).to_bytes(4, "little")


def table(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A sorted-string table of one data block."""
    out = bytearray()
    data = place_block(out, block(pairs))
    meta = place_block(out, block([]))
    index = place_block(out, block([(pairs[-1][0], data)]))
    footer = meta + index
    return bytes(out) + footer + b"\0" * (40 - len(footer)) + MAGIC.to_bytes(8, "little")


def place_block(out: bytearray, content: bytes) -> bytes:
    """Append a block with its type and checksum; return its handle."""
    where = number(len(out)) + number(len(content))
    body = content + b"\0"
    out += body + masked_crc(body).to_bytes(4, "little")
    return where


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Entries, each key without what it shares with the one before, then the restarts."""
    out, restarts, last = bytearray(), [], b""
    for place, (key, value) in enumerate(pairs):
        shared = 0
        if place % RESTART == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + b"".join(at.to_bytes(4, "little") for at in restarts) + len(restarts).to_bytes(4, "little")
