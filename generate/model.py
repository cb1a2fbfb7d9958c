"""GPT-2's forward pass over plain torch, with the attention left to whoever holds keys and values."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from generate.errors import Refusal
from generate.folder import Config, ModelFolder, is_foreign, tensor_shapes
from generate.linear import LOWEST, Function, pack

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}  # dtype of the activations

# (layer, queries, keys and values [M, 3, n_head, head_dim]) -> [M, n_embd]; the queries are scaled already
Attend = Callable[[int, Tensor], Tensor]
Norm = tuple[Tensor, Tensor]


class Block:
    """One layer: four products and two norms."""

    def __init__(self, tensors: dict[str, Tensor], prefix: str, precision: str, activation: str):
        def part(name: str) -> Norm:
            return tensors.pop(f"{prefix}{name}.weight"), tensors.pop(f"{prefix}{name}.bias")

        self.norm_1, self.norm_2 = part("ln_1"), part("ln_2")
        self.qkv = pack(*part("attn.c_attn"), precision)
        self.attention_out = pack(*part("attn.c_proj"), precision)
        self.mlp_in = pack(*part("mlp.c_fc"), precision, activation)
        self.mlp_out = pack(*part("mlp.c_proj"), precision, lowest=LOWEST[activation])


class GPT2:
    """The weights of one model on one device in one precision. It holds no state between calls."""

    def __init__(self, config: Config, tensors: dict[str, Tensor], precision: str):
        """`tensors` are named and shaped as `tensor_shapes(config)` says, on one device in the precision's dtype.

        The dictionary is emptied on the way, so that at most one layer is in memory twice.
        """
        self.config, self.precision = config, precision
        self.wte, self.wpe = tensors.pop("wte.weight"), tensors.pop("wpe.weight")
        self.device, self.dtype = self.wte.device, self.wte.dtype
        self.final_norm: Norm = tensors.pop("ln_f.weight"), tensors.pop("ln_f.bias")
        self.head: Function = pack(self.wte.t(), None, precision)
        self.blocks = [
            Block(scale_queries(tensors, config, layer), f"h.{layer}.", precision, config.activation)
            for layer in range(config.n_layer)
        ]

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """The final hidden states [M, n_embd] of M tokens, given their ids and positions, both int64 [M].

        The tokens may belong to any sequences in any mixture: only `attend` needs to know.
        """
        heads = self.config.n_head
        x = F.embedding(ids, self.wte).add_(F.embedding(positions, self.wpe))
        for layer, block in enumerate(self.blocks):
            qkv = block.qkv(self._norm(x, block.norm_1)).view(len(x), 3, heads, -1)
            x = block.attention_out(attend(layer, qkv)).add_(x)
            x = block.mlp_out(block.mlp_in(self._norm(x, block.norm_2))).add_(x)
        return self._norm(x, self.final_norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] in float32 of hidden states [N, n_embd]."""
        return self.head(hidden).float()

    def _norm(self, x: Tensor, parts: Norm) -> Tensor:
        return torch.layer_norm(x, x.shape[-1:], *parts, self.config.layer_norm_epsilon)


def scale_queries(tensors: dict[str, Tensor], config: Config, layer: int) -> dict[str, Tensor]:
    """Put the scale of the attention scores into the weights that make the queries, which costs nothing then."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attention else 1.0
    if config.scale_by_layer:
        scale /= layer + 1
    for part in ("weight", "bias"):
        tensors[f"h.{layer}.attn.c_attn.{part}"][..., : config.n_embd] *= scale
    return tensors


def load_model(folder: ModelFolder, device: torch.device, precision: str) -> GPT2:
    """Read the weights of a checked folder; raises Refusal when its lm_head is not wte, or a number is not finite."""
    tensors = {}
    expected = tensor_shapes(folder.config)
    with safe_open(str(folder.weights), "pt") as file:
        for stored in file.keys():  # noqa: SIM118 (not a dict)
            name = stored.removeprefix("transformer.")
            if name in expected:
                tensors[name] = file.get_tensor(stored).to(device, PRECISIONS[precision], copy=True)
                if not tensors[name].isfinite().all():
                    raise Refusal(
                        f"{folder.name}: {name} holds NaN or infinity; the weights are damaged, copy them again."
                    )
            elif not is_foreign(name):
                refuse_other_head(folder.name, file.get_tensor(stored), file)
    return GPT2(folder.config, tensors, precision)


def refuse_other_head(name: str, head: Tensor, file: safe_open) -> None:
    key = next(key for key in file.keys() if key.removeprefix("transformer.") == "wte.weight")  # noqa: SIM118
    if not torch.equal(head, file.get_tensor(key)):
        raise Refusal(
            f"{name}: lm_head.weight differs from wte.weight; GPT-2 ties them, so this model cannot be served."
        )
