"""GPT-2's forward pass over plain torch, with the attention left to the cache that holds keys and values."""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from generate.errors import Refusal
from generate.folder import Config, ModelFolder, is_foreign, tensor_shapes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class Attention(Protocol):
    """Keeps keys and values, and answers queries: all [N, n_head, T, head_dim]."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class Linear:
    """y = x W + b for W [in, out]; on a CPU the weight is packed once for oneDNN (1.5 to 2 times faster, 1 to 32 rows)."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.bias = bias
        self.weight = weight.t().contiguous()
        self.packed = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, 1)

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


class GPT2:
    """The weights of one model on one device in one precision. It holds no state between calls."""

    def __init__(self, config: Config, tensors: dict[str, Tensor]):
        """`tensors` are named and shaped as `tensor_shapes(config)` says, on one device in one dtype."""
        self.config = config
        self.wte, self.wpe = tensors["wte.weight"], tensors["wpe.weight"]
        self.device, self.dtype = self.wte.device, self.wte.dtype
        self.final_norm = (tensors["ln_f.weight"], tensors["ln_f.bias"])
        self.head = Linear(self.wte.t(), None)
        self.blocks = [self._block(tensors, f"h.{layer}.") for layer in range(config.n_layer)]
        self.activation = ACTIVATION[config.activation]

    @staticmethod
    def _block(tensors: dict[str, Tensor], prefix: str) -> dict:
        parts = {n: (tensors.pop(f"{prefix}{n}.weight"), tensors.pop(f"{prefix}{n}.bias")) for n in ("ln_1", "ln_2")}
        names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        return parts | {n: Linear(tensors.pop(f"{prefix}{n}.weight"), tensors.pop(f"{prefix}{n}.bias")) for n in names}

    def hidden(self, ids: Tensor, positions: Tensor, cache: Attention) -> Tensor:
        """The final hidden states [N, T, n_embd] of token ids [N, T] at `positions` [N, T] (both int64)."""
        n, t = ids.shape
        x = (F.embedding(ids, self.wte) + F.embedding(positions, self.wpe)).view(n * t, -1)
        for layer, block in enumerate(self.blocks):
            x = x + self._attention(layer, block, self._norm(x, block["ln_1"]), (n, t), cache)
            x = x + block["mlp.c_proj"](self.activation(block["mlp.c_fc"](self._norm(x, block["ln_2"]))))
        return self._norm(x, self.final_norm).view(n, t, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [N, V] in float32 of hidden states [N, n_embd]."""
        return self.head(hidden).float()

    def _norm(self, x: Tensor, parts: tuple[Tensor, Tensor]) -> Tensor:
        return F.layer_norm(x, (x.shape[-1],), *parts, eps=self.config.layer_norm_epsilon)

    def _attention(self, layer: int, block: dict, x: Tensor, shape: tuple[int, int], cache: Attention) -> Tensor:
        n, t = shape
        heads = self.config.n_head
        q, k, v = block["attn.c_attn"](x).view(n, t, 3, heads, -1).permute(2, 0, 3, 1, 4)
        y = cache.attend(layer, q * self._scale(layer, q.shape[-1]), k, v)
        return block["attn.c_proj"](y.transpose(1, 2).reshape(n * t, -1))

    def _scale(self, layer: int, head_dim: int) -> float:
        scale = head_dim**-0.5 if self.config.scale_attention else 1.0
        return scale / (layer + 1) if self.config.scale_by_layer else scale


def load_model(folder: ModelFolder, device: torch.device, precision: str) -> GPT2:
    """Read the weights of a checked folder; raises Refusal when its lm_head is not wte, or a number is not finite."""
    tensors = {}
    expected = tensor_shapes(folder.config)
    with safe_open(str(folder.weights), "pt") as file:
        for stored in file.keys():  # noqa: SIM118 (not a dict)
            name = stored.removeprefix("transformer.")
            if name in expected:
                tensors[name] = file.get_tensor(stored).to(device, DTYPES[precision])
                if not tensors[name].isfinite().all():
                    raise Refusal(
                        f"{folder.name}: {name} holds NaN or infinity; the weights are damaged, copy them again."
                    )
            elif not is_foreign(name):
                refuse_other_head(folder.name, file.get_tensor(stored), file)
    return GPT2(folder.config, tensors)


def refuse_other_head(name: str, head: Tensor, file: safe_open) -> None:
    key = next(key for key in file.keys() if key.removeprefix("transformer.") == "wte.weight")  # noqa: SIM118
    if not torch.equal(head, file.get_tensor(key)):
        raise Refusal(
            f"{name}: lm_head.weight differs from wte.weight; GPT-2 ties them, so this model cannot be served."
        )
