"""The tensors of model.safetensors: their names, shapes and types, known from the file's header alone."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from generate.errors import Refusal
from generate.folders.config import Config
from generate.mistaken import mistake

FLOATS = ("F16", "BF16", "F32", "F64")


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 by its name without the `transformer.` prefix. Matrices are [in, out]."""
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
    return ends | {f"h.{layer}.{name}": shape for layer in range(c.n_layer) for name, shape in block.items()}


def is_foreign(name: str) -> bool:
    """Old checkpoints keep each layer's causal mask as a buffer; it is not a weight."""
    return name.startswith("h.") and name.endswith((".attn.bias", ".attn.masked_bias"))


def check_tensors(path: Path, config: Config) -> None:
    """Compare names, shapes and types in the header of model.safetensors with what config.json promises."""
    file = path / "model.safetensors"
    if not file.is_file() and (shards := sorted(path.glob("model-?????-of-?????.safetensors"))):
        raise Refusal(
            "{model}: its weights are in several files, of which {file} is one; only model.safetensors is read: load it in "
            "transformers and save it whole, with save_pretrained(folder, max_shard_size='100GB').",
            model=path.name,
            file=shards[0].name,
        )
    if not file.is_file():
        raise Refusal(
            "{model}: model.safetensors is missing; weights in another form must be saved as safetensors first (in "
            "transformers: model.save_pretrained).",
            model=path.name,
        )
    if (instead := mistake(file, weights=True)) is not None:
        raise Refusal("{model}: model.safetensors {mistake}", model=path.name, mistake=instead)
    try:
        with safe_open(str(file), "numpy") as tensors:
            found = {
                name.removeprefix("transformer."): (
                    tuple((part := tensors.get_slice(name)).get_shape()),
                    part.get_dtype(),
                )
                for name in tensors.keys()  # noqa: SIM118 (not a dict)
            }
    except SafetensorError as error:
        raise Refusal(
            "{model}: model.safetensors is damaged or cut short ({reason}); copy it again.",
            model=path.name,
            reason=error,
        ) from None
    expected = tensor_shapes(config)
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(n for n in found.keys() - expected.keys() if n != "lm_head.weight" and not is_foreign(n))
    if missing or extra:
        first, *others = missing or extra
        if others:
            raise Refusal(
                "{model}: model.safetensors lacks {name} and {more} more; config.json and weights must belong together."
                if missing
                else "{model}: model.safetensors has the unexpected {name} and {more} more; config.json and weights "
                "must belong together.",
                model=path.name,
                name=first,
                more=len(others),
            )
        raise Refusal(
            "{model}: model.safetensors lacks {name}; config.json and weights must belong together."
            if missing
            else "{model}: model.safetensors has the unexpected {name}; config.json and weights must belong together.",
            model=path.name,
            name=first,
        )
    for name, shape in expected.items() | {("lm_head.weight", expected["wte.weight"])}:
        actual, dtype = found.get(name, (shape, "F32"))
        if actual != shape:
            raise Refusal(
                "{model}: {name} has shape {shape} where config.json says {wanted}; config.json and weights must "
                "belong together.",
                model=path.name,
                name=name,
                shape=list(actual),
                wanted=list(shape),
            )
        if dtype not in FLOATS:
            raise Refusal(
                "{model}: {name} is stored as {dtype}; save the weights as float32, float16 or bfloat16.",
                model=path.name,
                name=name,
                dtype=dtype,
            )
