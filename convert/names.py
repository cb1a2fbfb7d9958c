"""GPT-2's variables in OpenAI's TensorFlow code, and what `transformers` calls them. Nothing is transposed."""

import re
from collections.abc import Iterable

NAMES = {
    "model/wte": "wte.weight",
    "model/wpe": "wpe.weight",
    "model/ln_f/g": "ln_f.weight",
    "model/ln_f/b": "ln_f.bias",
    "model/h{}/ln_1/g": "h.{}.ln_1.weight",
    "model/h{}/ln_1/b": "h.{}.ln_1.bias",
    "model/h{}/attn/c_attn/w": "h.{}.attn.c_attn.weight",
    "model/h{}/attn/c_attn/b": "h.{}.attn.c_attn.bias",
    "model/h{}/attn/c_proj/w": "h.{}.attn.c_proj.weight",
    "model/h{}/attn/c_proj/b": "h.{}.attn.c_proj.bias",
    "model/h{}/ln_2/g": "h.{}.ln_2.weight",
    "model/h{}/ln_2/b": "h.{}.ln_2.bias",
    "model/h{}/mlp/c_fc/w": "h.{}.mlp.c_fc.weight",
    "model/h{}/mlp/c_fc/b": "h.{}.mlp.c_fc.bias",
    "model/h{}/mlp/c_proj/w": "h.{}.mlp.c_proj.weight",
    "model/h{}/mlp/c_proj/b": "h.{}.mlp.c_proj.bias",
}
# A head of its own, which no model of OpenAI's has, by a name such as theirs; it alone has no `transformer.` before it.
HEAD = "model/lm_head"
OPTIONAL = {HEAD: "lm_head.weight"}
LAYER = re.compile(r"model/h(0|[1-9][0-9]{0,3})/")


def to_transformers(names: Iterable[str]) -> dict[str, str]:
    """Map each GPT-2 variable among `names` to its name in `transformers` (without the `transformer.` prefix).

    Only exact names count: optimizer slots, moving averages and counters are left out.
    """
    found = {}
    for name in names:
        layer = LAYER.match(name)
        pattern = LAYER.sub("model/h{}/", name, count=1) if layer else name
        if pattern in OPTIONAL:
            found[name] = OPTIONAL[pattern]
        elif pattern in NAMES and ("{}" in pattern) == bool(layer):
            found[name] = NAMES[pattern].format(layer[1] if layer else "")
    return found


def stored_name(new: str) -> str:
    """The full name in `transformers` of what `to_transformers` gave."""
    return new if new in OPTIONAL.values() else f"transformer.{new}"


def to_tensorflow(layers: int) -> dict[str, str]:
    """Map every `transformers` name of a model with so many layers to OpenAI's."""
    return {
        new.format(layer): old.format(layer)
        for old, new in NAMES.items()
        for layer in (range(layers) if "{}" in old else (0,))
    }
