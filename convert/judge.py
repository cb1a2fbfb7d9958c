"""A second GPT-2, to judge the conversion by: NumPy, double precision, straight from TensorFlow's names.

It shares no code with the engine. Source: openai/gpt-2, src/model.py.
"""

import math

import numpy as np

from convert.bundle import Bundle
from convert.sizes import Sizes
from convert.weights import cast, chunks


def logits(bundle: Bundle, sizes: Sizes, ids: list[int]) -> np.ndarray:
    """Logits, float64 [T, V], of `ids` (at most n_positions)."""

    def read(name: str) -> np.ndarray:
        variable = bundle.variables[f"model/{name}"]
        raw = np.concatenate([cast(c, variable.dtype, "float64") for c in chunks(bundle, variable.name, None)])
        shape = variable.shape[1:] if len(variable.shape) == 3 else variable.shape
        return raw.view("<f8").reshape(shape)

    wte = read("wte")
    head = read("lm_head") if sizes.has_head else wte
    scale = (sizes.n_embd // sizes.n_head) ** -0.5 if sizes.scale_attn_weights else 1.0
    x = wte[ids] + read("wpe")[: len(ids)]  # [T, E]
    for layer in range(sizes.n_layer):
        part = f"h{layer}/"
        a = normalise(x, read(f"{part}ln_1/g"), read(f"{part}ln_1/b"), sizes.layer_norm_epsilon)
        a = a @ read(f"{part}attn/c_attn/w") + read(f"{part}attn/c_attn/b")  # [T, 3E]
        x = (
            x
            + attend(a, sizes.n_head, scale / (layer + 1 if sizes.scale_attn_by_inverse_layer_idx else 1))
            @ read(f"{part}attn/c_proj/w")
            + read(f"{part}attn/c_proj/b")
        )
        m = normalise(x, read(f"{part}ln_2/g"), read(f"{part}ln_2/b"), sizes.layer_norm_epsilon)
        m = ACTIVATIONS[sizes.activation](m @ read(f"{part}mlp/c_fc/w") + read(f"{part}mlp/c_fc/b"))  # [T, 4E]
        x = x + m @ read(f"{part}mlp/c_proj/w") + read(f"{part}mlp/c_proj/b")
    return normalise(x, read("ln_f/g"), read("ln_f/b"), sizes.layer_norm_epsilon) @ head.T


def normalise(x: np.ndarray, g: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
    """Layer norm of each row of x [T, E], with gain and bias [E]."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * g + b


def gelu(x: np.ndarray) -> np.ndarray:
    """GELU in its tanh form, `transformers`' gelu_new."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x: np.ndarray) -> np.ndarray:
    """GELU itself."""
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / np.sqrt(2)))


# as `transformers` names them
ACTIVATIONS = {
    "gelu_new": gelu,
    "gelu_pytorch_tanh": gelu,
    "gelu": exact_gelu,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def attend(qkv: np.ndarray, heads: int, scale: float) -> np.ndarray:
    """Causal attention: [T, 3E] -> [T, E], its scores times `scale`."""
    t = len(qkv)
    q, k, v = (part.reshape(t, heads, -1).transpose(1, 0, 2) for part in np.split(qkv, 3, -1))  # [H, T, D]
    scores = q @ k.transpose(0, 2, 1) * scale
    scores = np.where(np.tri(t, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ v).transpose(1, 0, 2).reshape(t, -1)
