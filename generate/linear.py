"""y = act(x W + b) in each precision, with the weights packed once when a model is loaded.

float32, bfloat16   on a CPU in oneDNN's own layout: 1.5 to 2 times faster than `F.linear` at 1 to 32 rows
int8                on a CPU: int8 weights with a scale per output, activations with a scale per row, so that a row's
                    numbers do not depend on its neighbours; the sums are exact in int32
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]
FEW_ROWS = (
    32  # up to here fbgemm is faster than oneDNN (6.6 to 9.6 ms at one row of the 124M shape), beyond it is slower
)
ROUND = 1.5 * 2**23  # a float32 that was added to this holds its integer, rounded to even, in its lowest bits
# without torch's Python wrapper, which looks through the arguments for 6 us a call (49 calls a step)
multiply_few = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default._op
SQRT_8_OVER_PI = (8 / torch.pi) ** 0.5


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in Hendrycks' approximation, 0.5 x (1 + tanh(u)), as x sigmoid(2 u): torch's own takes 4 times as long."""
    twice_u = (x * x).mul_(SQRT_8_OVER_PI * 0.044715).add_(SQRT_8_OVER_PI).mul_(x)
    return twice_u.sigmoid_().mul_(x)


ACTIVATIONS: dict[str | None, Function] = {
    None: lambda x: x,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}
LOWEST = {"gelu_new": -0.1701, "gelu_pytorch_tanh": -0.1701, "gelu": -0.17, "relu": 0.0, "silu": -0.2785}
INSIDE_ONEDNN = {
    None: ("none", ""),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "gelu": ("gelu", "none"),
    "relu": ("relu", ""),
}


def pack(
    weight: Tensor, bias: Tensor | None, precision: str, activation: str | None = None, lowest: float | None = None
) -> Function:
    """Return the function x [N, in] -> act(x W + b) [N, out] for W [in, out] and b [out].

    `precision` float32 and bfloat16 take the tensors and x in that dtype; int8 takes and gives float32, and is more
    precise when x is known never to be less than `lowest`.
    """
    if precision == "int8":
        return Int8Linear(weight, bias, activation, lowest)
    if weight.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return packed_linear(weight, bias, activation)
    act, weight = ACTIVATIONS[activation], weight.t().contiguous()
    return lambda x: act(F.linear(x, weight, bias))


def packed_linear(weight: Tensor, bias: Tensor | None, activation: str | None) -> Function:
    """oneDNN's linear, with the activation inside it where oneDNN has it."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), 1)
    linear = torch.ops.mkldnn._linear_pointwise.default
    if activation in INSIDE_ONEDNN:
        name, algorithm = INSIDE_ONEDNN[activation]
        return lambda x: linear(x, packed, bias, name, [], algorithm)
    act = ACTIVATIONS[activation]
    return lambda x: act(linear(x, packed, bias, "none", [], ""))


class Int8Linear:
    """Rows are scaled to whole numbers of 8 bits, multiplied as integers, and scaled back.

    `quantized::linear_dynamic` would take one scale for the whole batch, so that neighbours change a row. Two kernels do
    the product, each where it is faster; the sums are integers, so both give the same bits. Both keep a packed copy.
    What is known never to be less than `lowest` (as after a GELU) uses all 255 levels above it, else they reach from -127
    to 127. A row of zeros divides by zero: its NaNs become some integers, which the row's scale of zero wipes out again.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str | None, lowest: float | None):
        self.bias, self.lowest = bias, lowest
        self.activation = gelu_tanh if activation in ("gelu_new", "gelu_pytorch_tanh") else ACTIVATIONS[activation]
        rows = weight.t().float().contiguous()  # oneDNN packs other layouts without a word, but wrongly
        self.scale = (rows.abs().amax(1) / 127).clamp_min_(1e-20)
        self.zero = torch.zeros(len(rows), dtype=torch.int64)
        whole = (rows / self.scale[:, None]).round_().to(torch.int8)
        self.many = torch.ops.onednn.qlinear_prepack(whole, [FEW_ROWS, whole.shape[1]])
        self.few = pack_for_few_rows(whole, self.scale, self.zero)
        self.middle = 128 if lowest is None else 0  # activations are uint8: int8 ones fall to a reference kernel
        if lowest is not None:
            shift = whole.sum(1) * self.scale * lowest
            self.bias = shift if bias is None else bias + shift

    def __call__(self, x: Tensor) -> Tensor:
        if self.lowest is None:
            size = x.abs().amax(1, keepdim=True).mul_(1 / 127)
        else:
            x = x - self.lowest
            size = x.amax(1, keepdim=True).mul_(1 / 255)
        y = self._product(x / size).mul_(size)
        if self.bias is not None:
            y.add_(self.bias)
        return self.activation(y)

    def _product(self, x: Tensor) -> Tensor:
        if self.few is not None and x.shape[0] <= FEW_ROWS:
            return multiply_few(x, 1.0, self.middle, self.few)
        # one sum after the other, since fbgemm rounds twice as well: to a float near 128, then to an integer
        whole = x.add_(float(self.middle)).add_(ROUND).view(torch.int32).to(torch.uint8)
        return torch.ops.onednn.qlinear_pointwise.default(
            whole, 1.0, self.middle, self.many, self.scale, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )


def int8_is_exact() -> bool:
    """Whether this CPU adds products of 8-bit numbers in 32 bits; older ones saturate at 16."""
    return torch.cpu._is_vnni_supported()


def pack_for_few_rows(whole: Tensor, scale: Tensor, zero: Tensor) -> object | None:
    """fbgemm's packed weights, or None where torch has them no longer (its quantized tensors are on the way out)."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*quantized tensor creation")
            quantized = torch._make_per_channel_quantized_tensor(whole, scale.double(), zero, 0)
        return torch.ops.quantized.linear_prepack(quantized, None)
    except (AttributeError, RuntimeError):
        return None
