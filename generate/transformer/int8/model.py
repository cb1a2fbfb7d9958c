"""GPT-2 in int8 on a CPU: weights with a scale per output, activations with a scale per row, one compiled pass.

A row's numbers do not depend on its neighbours, to the last bit, and attention reads no more than a row is long. At the
124M shape a step of 1 / 8 / 32 rows takes 4.7 / 7.2 / 24 ms, where its matrix products alone take 6.9 / 9.5 / 27 ms by
torch's int8 kernel, and a step over torch's operators took 10 / 16 / 43 (one Zen 4 core).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from generate.compiled.tiles import LANES
from generate.folders.config import Config
from generate.folders.tensors import HEAD
from generate.transformer.int8 import fused
from generate.transformer.int8.attention import PAGE
from generate.transformer.int8.fused import Weights
from generate.transformer.int8.kv_cache import PagedKVCache, PagedPrefix
from generate.transformer.int8.packing import empty_linear, fill_linear, round_up
from generate.transformer.int8.team import Team

KINDS = {"gelu_new": 0, "gelu_pytorch_tanh": 0, "gelu": 1, "relu": 2, "silu": 3}  # as rowwise.activate counts them
LOWEST = {"gelu_new": -0.1701, "gelu_pytorch_tanh": -0.1701, "gelu": -0.17, "relu": 0.0, "silu": -0.2785}

BLOCK = (
    128  # tokens in one pass: what lies between its products stays in the processor's cache (0.5 ms a token, else 0.75)
)
EMBEDDING = torch.float16  # its numbers are small, and those of checkpoints often come in it

Piece = tuple[PagedKVCache | PagedPrefix, Tensor, Tensor]


class Int8GPT2:
    """The weights of one model, packed, the threads that compute with them, and room for what they compute, which one
    caller at a time may use. It holds no state between calls."""

    precision = "int8"
    device = torch.device("cpu")
    dtype = torch.float16  # of keys and values

    def __init__(self, config: Config, tensors: Mapping[str, Tensor]):
        """`tensors` are float32 as `tensor_shapes(config)` says, the queries' scale in them; each is asked for once, and let
        go of before the next, so that it may be read only then."""
        self.config = config
        self._head = empty_linear(1, config.n_embd, config.vocab_size)
        embedding = tensors["wte.weight"]
        fill_linear(self._head, 0, tensors.get(HEAD, embedding).numpy().T, None)
        tokens = embedding.to(EMBEDDING).numpy().view(np.uint16)
        del embedding
        self._weights = pack_weights(config, tokens, tensors)
        self._kind, self._lowest = KINDS[config.activation], np.float32(LOWEST[config.activation])
        self._epsilon = np.float32(config.layer_norm_epsilon)
        self.use_threads(1)

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on; what is computed does not change."""
        self._team, self._room, self._room_for, self._room_for_head = Team(count), None, (0, 0), ((), ())

    def new_cache(self, most_rows: int, prefix_bytes: int) -> PagedKVCache:
        """A cache for so many rows, with `prefix_bytes` more for texts that are kept."""
        return PagedKVCache(self.config, most_rows, prefix_bytes)

    def hidden(self, pieces: list[Piece]) -> Tensor:
        """The final hidden states [M, n_embd] of M tokens, as `GPT2.hidden` has it."""
        tables, rows = [], []
        for holder, ids, _ in pieces:
            more, numbers = holder.places(len(ids))
            rows.append(numbers + len(tables))
            tables += more
        ids, positions = (joined([piece[part].numpy() for piece in pieces]) for part in (1, 2))
        rows, tables = joined(rows), np.stack(tables)
        out, pool = np.empty((len(ids), self.config.n_embd), np.float32), pieces[0][0].pool.kv
        for low in range(0, len(ids), BLOCK):
            some = slice(low, low + BLOCK)
            self._team.do(
                fused.hidden,
                len(ids[some]),
                self._weights,
                pool,
                tables,
                ids[some],
                rows[some],
                positions[some],
                self._kind,
                self._lowest,
                self._epsilon,
                out[some],
                self._room_of(pool, len(ids[some]), positions[some].max() + 1),
            )
        return torch.from_numpy(out)

    def _room_of(self, pool: np.ndarray, count: int, positions: int) -> fused.Between:
        """Room for `count` tokens, none of them at more than so many positions; that of the last pass where it fits."""
        if self._room_for[0] != count or self._room_for[1] < positions:
            self._room_for = count, round_up(positions, PAGE)
            self._room = fused.room(self._weights, pool, *self._room_for, self._team.size)
        return self._room

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] in float32 of hidden states [N, n_embd]."""
        x, out = hidden.numpy(), np.empty((len(hidden), self._head.scale.shape[1]), np.float32)
        if len(self._room_for_head[0]) != len(x):
            self._room_for_head = fused.inputs_for(len(x), self._head), np.empty(len(x), np.float32)
        self._team.do(fused.head, len(x), self._head, x, *self._room_for_head, out)
        return torch.from_numpy(out)[:, : self.config.vocab_size]


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Some arrays one after the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def widen(array: np.ndarray, heads: int, axis: int) -> np.ndarray:
    """Put zeros between `heads` heads that lie one after the other along an axis, to a multiple of LANES."""
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    if array.shape[axis] // heads % LANES == 0:
        return array
    parts = array.reshape(*before, heads, -1, *after)
    dim = parts.shape[axis + 1]
    padding = [(0, 0)] * parts.ndim
    padding[axis + 1] = (0, round_up(dim, LANES) - dim)
    return np.pad(parts, padding).reshape(*before, -1, *after)


def pack_weights(config: Config, tokens: np.ndarray, tensors: Mapping[str, Tensor]) -> Weights:
    """All of a model but its head; `tokens` is the embedding."""
    layers, embd, heads = config.n_layer, config.n_embd, config.n_head
    inner = heads * round_up(embd // heads, LANES)
    qkv, out = empty_linear(layers, embd, 3 * inner), empty_linear(layers, inner, embd)
    mlp_in, mlp_out = empty_linear(layers, embd, config.n_inner), empty_linear(layers, config.n_inner, embd)
    norms = {name: np.empty((layers, 2, embd), np.float32) for name in ("ln_1", "ln_2")}
    for layer in range(layers):

        def part(name: str, layer: int = layer) -> tuple[np.ndarray, np.ndarray]:
            return tensors[f"h.{layer}.{name}.weight"].numpy(), tensors[f"h.{layer}.{name}.bias"].numpy()

        w, b = part("attn.c_attn")
        fill_linear(qkv, layer, widen(w, 3 * heads, 1), widen(b, 3 * heads, 0))
        w, b = part("attn.c_proj")
        fill_linear(out, layer, widen(w, heads, 0), b)
        fill_linear(mlp_in, layer, *part("mlp.c_fc"))
        fill_linear(mlp_out, layer, *part("mlp.c_proj"), LOWEST[config.activation])
        for name, norm in norms.items():
            norm[layer] = part(name)
    final = np.stack((tensors["ln_f.weight"].numpy(), tensors["ln_f.bias"].numpy()))[None]
    places = tensors["wpe.weight"].numpy().copy()  # a tensor's memory may be a whole file's
    return Weights(tokens, places, norms["ln_1"], qkv, out, norms["ln_2"], mlp_in, mlp_out, final)
