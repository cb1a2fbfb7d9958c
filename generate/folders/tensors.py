"""The tensors that a GPT-2 has, and whether those of a folder are they: names, shapes and types, by the headers alone."""

import re
from collections.abc import Iterable, Mapping

from generate.errors import Refusal
from generate.folders.config import Config
from generate.folders.strangers import refuse_other_tensors
from generate.folders.weights import Stored

FLOATS = ("F16", "BF16", "F32", "F64")
HEAD = "lm_head.weight"
LAYER = re.compile(r"h\.\d+\.")


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 by its name without the `transformer.` prefix. Matrices are [in, out].

    The head, [vocab_size, n_embd], is among them where config.json says that it is not the embedding.
    """
    c, e = config, config.n_embd
    block = {
        "ln_1.weight": (e,),
        "ln_1.bias": (e,),
        "attn.c_attn.weight": (e, 3 * e),
        "attn.c_attn.bias": (3 * e,),
        "attn.c_proj.weight": (e, e),
        "attn.c_proj.bias": (e,),
        "ln_2.weight": (e,),
        "ln_2.bias": (e,),
        "mlp.c_fc.weight": (e, c.n_inner),
        "mlp.c_fc.bias": (c.n_inner,),
        "mlp.c_proj.weight": (c.n_inner, e),
        "mlp.c_proj.bias": (e,),
    }
    ends = {"wte.weight": (c.vocab_size, e), "wpe.weight": (c.n_positions, e), "ln_f.weight": (e,), "ln_f.bias": (e,)}
    ends |= {} if c.tied else {HEAD: ends["wte.weight"]}
    return ends | {f"h.{layer}.{name}": shape for layer in range(c.n_layer) for name, shape in block.items()}


def is_foreign(name: str) -> bool:
    """Old checkpoints keep each layer's causal mask as a buffer; it is not a weight."""
    return name.startswith("h.") and name.endswith((".attn.bias", ".attn.masked_bias"))


def absent_biases(config: Config, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the biases that a model was made without, which are zeros: those of a kind that no layer has."""
    names = set(names)
    kinds: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensor_shapes(config).items():
        if name.endswith(".bias"):
            kinds.setdefault(LAYER.sub("", name), {})[name] = shape
    return {name: shape for kind in kinds.values() if names.isdisjoint(kind) for name, shape in kind.items()}


def check_tensors(model: str, config: Config, found: Mapping[str, Stored]) -> None:
    """Compare the names, shapes and types that were `found` in a folder with what its config.json promises."""
    expected = tensor_shapes(config)
    optional = absent_biases(config, found).keys() | {HEAD}  # without a head of its own it has the embedding's
    missing = sorted(expected.keys() - found.keys() - optional)
    extra = sorted(n for n in found.keys() - expected.keys() if n != HEAD and not is_foreign(n))
    if missing or extra:
        refuse_other_tensors(model, (stored.key for stored in found.values()))
        refuse_names(model, missing, extra)
    for name, shape in expected.items() | {(HEAD, expected["wte.weight"])}:
        if name not in found:
            continue
        stored = found[name]
        if stored.shape != shape:
            raise Refusal(
                "{model}: {name} has shape {shape} where config.json says {wanted}; config.json and weights must "
                "belong together.",
                model=model,
                name=name,
                shape=list(stored.shape),
                wanted=list(shape),
            )
        if stored.dtype not in FLOATS:
            raise Refusal(
                "{model}: {name} is stored as {dtype}; save the weights as float32, float16 or bfloat16.",
                model=model,
                name=name,
                dtype=stored.dtype,
            )


def refuse_names(model: str, missing: list[str], extra: list[str]) -> None:
    """Raise Refusal for tensors that are missing, else for those that nobody expects."""
    first, *others = missing or extra
    if others:
        raise Refusal(
            "{model}: its weights lack {name} and {more} more; config.json and weights must belong together."
            if missing
            else "{model}: its weights have the unexpected {name} and {more} more; config.json and weights must belong "
            "together.",
            model=model,
            name=first,
            more=len(others),
        )
    raise Refusal(
        "{model}: its weights lack {name}; config.json and weights must belong together."
        if missing
        else "{model}: its weights have the unexpected {name}; config.json and weights must belong together.",
        model=model,
        name=first,
    )
