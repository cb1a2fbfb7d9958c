"""GPT-2's forward pass over plain torch, with the attention left to whoever holds keys and values."""

import re
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from generate.folders.config import Config
from generate.folders.model_folder import ModelFolder
from generate.folders.tensors import HEAD
from generate.transformer.int8.model import Int8GPT2
from generate.transformer.kv_cache import KVCache
from generate.transformer.linear import Function, pack
from generate.transformer.prefix import Prefix
from generate.transformer.reading import StoredTensors

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}  # dtype of the tensors

QUERIES = re.compile(r"h\.(\d+)\.attn\.c_attn\.(?:weight|bias)")

Norm = tuple[Tensor, Tensor]
# tokens of one text or of all running rows: who keeps their keys and values, their ids and positions, int64 [T] each
Piece = tuple[KVCache | Prefix, Tensor, Tensor]


class Block:
    """One layer: four products and two norms."""

    def __init__(self, tensors: dict[str, Tensor], prefix: str, activation: str):
        def part(name: str) -> Norm:
            return tensors.pop(f"{prefix}{name}.weight"), tensors.pop(f"{prefix}{name}.bias")

        self.norm_1, self.norm_2 = part("ln_1"), part("ln_2")
        self.qkv = pack(*part("attn.c_attn"))
        self.attention_out = pack(*part("attn.c_proj"))
        self.mlp_in = pack(*part("mlp.c_fc"), activation)
        self.mlp_out = pack(*part("mlp.c_proj"))


class GPT2:
    """The weights of one model on one device in one precision. It holds no state between calls."""

    def __init__(self, config: Config, tensors: dict[str, Tensor], precision: str):
        """`tensors` are named and shaped as `tensor_shapes(config)` says, the queries' scale in them, on one device; without
        a head of its own it has the embedding's.

        The dictionary is emptied on the way, so that at most one layer is in memory twice.
        """
        self.config, self.precision = config, precision
        self.wte, self.wpe = tensors.pop("wte.weight"), tensors.pop("wpe.weight")
        self.device, self.dtype = self.wte.device, self.wte.dtype
        self.final_norm: Norm = tensors.pop("ln_f.weight"), tensors.pop("ln_f.bias")
        self.head: Function = pack(tensors.pop(HEAD, self.wte).t(), None)
        self.blocks = [Block(tensors, f"h.{layer}.", config.activation) for layer in range(config.n_layer)]

    def use_threads(self, count: int) -> None:
        """Have torch compute with so many threads, whatever it computes in the thread that calls this."""
        torch.set_num_threads(count)

    def new_cache(self, most_rows: int, _prefix_bytes: int) -> KVCache:
        """A cache for so many rows at the most."""
        return KVCache(self.config, self.device, self.dtype, most_rows)

    def hidden(self, pieces: list[Piece]) -> Tensor:
        """The final hidden states [M, n_embd] of all tokens of some pieces, one after the other."""
        ids, positions = (torch.cat(parts) for parts in zip(*(piece[1:] for piece in pieces), strict=True))
        attend, sizes = pieces[0][0].attend, [len(piece[1]) for piece in pieces]
        if len(pieces) > 1:

            def attend(layer: int, qkv: Tensor) -> Tensor:
                parts = zip(pieces, qkv.split(sizes), strict=True)
                return torch.cat([holder.attend(layer, some) for (holder, _, _), some in parts])

        x = F.embedding(ids, self.wte).add_(F.embedding(positions, self.wpe))
        for layer, block in enumerate(self.blocks):
            qkv = block.qkv(self._norm(x, block.norm_1)).view(len(x), 3, self.config.n_head, -1)
            x = block.attention_out(attend(layer, qkv)).add_(x)
            x = block.mlp_out(block.mlp_in(self._norm(x, block.norm_2))).add_(x)
        return self._norm(x, self.final_norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] in float32 of hidden states [N, n_embd]."""
        return self.head(hidden).float()

    def _norm(self, x: Tensor, parts: Norm) -> Tensor:
        return torch.layer_norm(x, x.shape[-1:], *parts, self.config.layer_norm_epsilon)


def new_model(config: Config, tensors: Mapping[str, Tensor], precision: str) -> GPT2 | Int8GPT2:
    """A model of tensors that the queries' scale is in; int8 takes them in float32."""
    return Int8GPT2(config, tensors) if precision == "int8" else GPT2(config, dict(tensors), precision)


class Scaled(Mapping[str, Tensor]):
    """Tensors with the scale of the attention scores in the weights that make the queries, which costs nothing then.

    It is put into those that `tensors` give, so that these must be given anew each time.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Config):
        self._tensors, self._config = tensors, config

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if found := QUERIES.fullmatch(name):
            scale_queries(tensor, self._config, int(found[1]))
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def scale_queries(tensor: Tensor, config: Config, layer: int) -> None:
    """Put the scale of a layer's attention scores into its c_attn, of which `tensor` is the weight or the bias."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attention else 1.0
    if config.scale_by_layer:
        scale /= layer + 1
    tensor[..., : config.n_embd] *= scale


def load_model(folder: ModelFolder, device: torch.device, precision: str) -> GPT2 | Int8GPT2:
    """Read the weights of a checked folder; raises Refusal when a number is not finite."""
    tensors = Scaled(StoredTensors(folder, device, PRECISIONS[precision]), folder.config)
    return new_model(folder.config, tensors, precision)
