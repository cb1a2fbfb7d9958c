"""y = act(x W + b) in float32 or bfloat16, with the weights packed once when a model is loaded.

On a CPU they lie in oneDNN's own layout, where it has one: 1.5 to 2 times faster than `F.linear` at 1 to 32 rows.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str | None, Function] = {
    None: lambda x: x,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}
INSIDE_ONEDNN = {
    None: ("none", ""),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "gelu": ("gelu", "none"),
    "relu": ("relu", ""),
}


def pack(weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Function:
    """Return the function x [N, in] -> act(x W + b) [N, out] for W [in, out] and b [out], all of one dtype."""
    if weight.device.type == "cpu" and is_packed(weight.dtype):
        return packed_linear(weight, bias, activation)
    act, weight = ACTIVATIONS[activation], weight.t().contiguous()
    return lambda x: act(F.linear(x, weight, bias))


def is_packed(dtype: torch.dtype) -> bool:
    """Whether oneDNN has a layout for weights of `dtype` here: for bfloat16 only on processors with AVX-512 or AVX-NE-CONVERT."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def packed_linear(weight: Tensor, bias: Tensor | None, activation: str | None) -> Function:
    """oneDNN's linear, with the activation inside it where oneDNN has it."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), 1)
    linear = torch.ops.mkldnn._linear_pointwise.default
    if activation in INSIDE_ONEDNN:
        name, algorithm = INSIDE_ONEDNN[activation]
        return lambda x: linear(x, packed, bias, name, [], algorithm)
    act = ACTIVATIONS[activation]
    return lambda x: act(linear(x, packed, bias, "none", [], ""))
