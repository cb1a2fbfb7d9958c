"""The hyper-parameters of a checkpoint: from its shapes, checked against hparams.json. Only n_head is in no shape."""

from dataclasses import dataclass
from pathlib import Path

from convert.bundle import Bundle
from convert.names import HEAD, to_tensorflow, to_transformers
from convert.questions import UnknownHeads
from generate import ACTIVATIONS, N_, Refusal, kind_by_names, read_object, refuse_adapter

OFFICIAL = {(768, 12): 12, (1024, 24): 16, (1280, 36): 20, (1600, 48): 25}  # (n_embd, n_layer): n_head
SPELLINGS = {  # OpenAI's five keys, and what people wrote by hand
    "n_vocab": "vocab_size",
    "vocab_size": "vocab_size",
    "n_ctx": "n_positions",
    "n_positions": "n_positions",
    "n_embd": "n_embd",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_inner": "n_inner",
}
EXTRAS = {"layer_norm_epsilon": 1e-5, "initializer_range": 0.02}
FLAGS = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
ACTIVATION = "activation_function"


@dataclass(frozen=True)
class Sizes:
    """What was found out, and how: `origins` says for each name where its value comes from."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    layer_norm_epsilon: float
    initializer_range: float
    n_inner: int
    activation: str
    scale_attn_weights: bool  # whether attention is divided by the root of a head's width
    scale_attn_by_inverse_layer_idx: bool  # and by the layer's number, from 1
    has_head: bool  # of its own, other than the embedding
    origins: dict[str, str]


def find_sizes(bundle: Bundle, hparams: Path | None, n_head: int | None) -> Sizes:
    """Derive all hyper-parameters; raises Refusal for what is missing, does not fit, or contradicts hparams.json."""
    sizes = from_shapes(bundle)
    origins = dict.fromkeys(sizes, N_("from the shapes"))
    name, told = told_of(bundle, hparams)
    for size, value in sizes.items():
        if size in told and told[size] != value:
            raise Refusal(
                "{file} says {name} is {told}, but the checkpoint's shapes say {found}.",
                file=name,
                name=size,
                told=told[size],
                found=value,
            )
    heads, origins["n_head"] = find_heads(sizes, told.get("n_head"), n_head, name)
    extras = {extra: told.get(extra, default) for extra, default in (EXTRAS | FLAGS).items()}
    for extra in extras:
        if extra in told or extra in EXTRAS:
            origins[extra] = f"from {name}" if extra in told else N_("assumed: GPT-2's")
    inner = told.get("n_inner", 4 * sizes["n_embd"])
    activation = told.get(ACTIVATION, "gelu_new")
    origins |= {
        found: f"from {name}" for found, key in (("n_inner", "n_inner"), ("activation", ACTIVATION)) if key in told
    }
    check_shapes(bundle, sizes, inner)
    return Sizes(
        **sizes,
        n_head=heads,
        **extras,
        n_inner=inner,
        activation=activation,
        has_head=HEAD in bundle.variables,
        origins=origins,
    )


def told_of(bundle: Bundle, hparams: Path | None) -> tuple[str, dict[str, int | float | bool | str]]:
    """What a checkpoint itself, else the file beside it, says of the model, and its name; raises Refusal."""
    own = getattr(bundle, "told", {})
    if own:
        return bundle.prefix.name, told_in(own, bundle.prefix.name)
    return ("", {}) if hparams is None else (hparams.name, told_in(read_object(hparams), hparams.name))


def from_shapes(bundle: Bundle) -> dict[str, int]:
    """vocab_size, n_positions, n_embd and n_layer, from the shapes of the variables that are there."""
    found = to_transformers(bundle.variables)
    refuse_stranger(bundle)  # some kinds have a part of GPT-2's names too
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in bundle.variables and not found:
        raise Refusal(
            "{checkpoint} is an object-based checkpoint of TensorFlow 2 (tf.train.Checkpoint), whose names are not "
            "OpenAI's; save the model with tf.compat.v1.train.Saver() under OpenAI's names.",
            checkpoint=bundle.prefix.name,
        )
    if not found:
        refuse_adapter(bundle.prefix.parent, bundle.variables)
        names = ", ".join(list(bundle.variables)[:3])
        if not names:
            raise Refusal(
                "{checkpoint} holds no GPT-2 variables (model/wte, model/h0/…), nor any others.",
                checkpoint=bundle.prefix.name,
            )
        raise Refusal(
            "{checkpoint} holds no GPT-2 variables (model/wte, model/h0/…); its first ones are {names}.",
            checkpoint=bundle.prefix.name,
            names=names,
        )
    for name in ("model/wte", "model/wpe"):
        if name not in bundle.variables:
            raise Refusal("{name} is missing from the checkpoint.", name=name)
        if len(bundle.variables[name].shape) != 2:
            raise Refusal(
                "{name} has shape {shape}; a GPT-2's has two dimensions.",
                name=name,
                shape=list(bundle.variables[name].shape),
            )
    for name in found:  # before anything else is blamed for their numbers
        bundle.check(name)
    (vocab_size, n_embd), (n_positions, _) = (bundle.variables[f"model/{name}"].shape for name in ("wte", "wpe"))
    layers = {int(new.split(".")[1]) for new in found.values() if new.startswith("h.")}
    missing = next((layer for layer in range(len(layers)) if layer not in layers), None)
    if not layers:
        raise Refusal("The checkpoint has no layer.")
    if missing is not None:
        raise Refusal(
            "Layer {layer} is missing from the checkpoint, which has a layer {highest}.",
            layer=missing,
            highest=max(layers),
        )
    sizes = {"vocab_size": vocab_size, "n_positions": n_positions, "n_embd": n_embd, "n_layer": len(layers)}
    if min(sizes.values()) < 1:
        raise Refusal("The checkpoint's shapes are absurd: {sizes}.", sizes=sizes)
    return sizes


def refuse_stranger(bundle: Bundle) -> None:
    """Raise Refusal where the names of the variables are known to be of another kind of model."""
    if (kind := kind_by_names(bundle.variables)) is not None:
        raise Refusal(
            "{checkpoint} is of a {kind}, and no GPT-2; other kinds of models cannot be converted.",
            checkpoint=bundle.prefix.name,
            kind=kind,
        )


def told_in(raw: dict, file: str) -> dict[str, int | float | bool | str]:
    """What hparams.json or a config.json says, in our names; raises Refusal for another model, or a size named twice."""
    if raw.get("model_type", "gpt2") != "gpt2" or raw.get("add_cross_attention"):
        raise Refusal(
            "{file} is of another model than a plain GPT-2 (model_type {kind!r:.40}).",
            file=file,
            kind=raw.get("model_type"),
        )
    told: dict[str, int | float | bool | str] = {}
    for key, name in SPELLINGS.items():
        if key not in raw or (key == "n_inner" and raw[key] is None):  # so `transformers` says four times the width
            continue
        value = raw[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise Refusal(
                "{name} in {file} must be a whole number above 0, not {given!r:.60}.",
                name=key,
                file=file,
                given=value,
            )
        if told.setdefault(name, value) != value:
            raise Refusal(
                "{file} gives two values for {name}: {first} and {second}.",
                file=file,
                name=name,
                first=told[name],
                second=value,
            )
    for name in EXTRAS:
        value = raw.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value <= 1):
                raise Refusal(
                    "{name} in {file} must be a number from 0 to 1, not {given!r:.60}.",
                    name=name,
                    file=file,
                    given=value,
                )
            told[name] = float(value)
    for name in FLAGS:
        if name in raw:
            if not isinstance(raw[name], bool):
                raise Refusal(
                    "{name} in {file} must be true or false, not {given!r:.60}.",
                    name=name,
                    file=file,
                    given=raw[name],
                )
            told[name] = raw[name]
    return told | activation_in(raw, file)


def activation_in(raw: dict, file: str) -> dict[str, str]:
    """The activation function that is told, if one is; raises Refusal for one that the engine has not."""
    value = raw.get(ACTIVATION)
    if value is None:
        return {}
    if value not in ACTIVATIONS:
        raise Refusal(
            "activation_function in {file} is {given!r:.40}; known are {known}.",
            file=file,
            given=value,
            known=", ".join(ACTIVATIONS),
        )
    return {ACTIVATION: value}


def find_heads(sizes: dict[str, int], told: int | None, asked: int | None, file: str) -> tuple[int, str]:
    """n_head and where it comes from: hparams.json (or another `file`), --n-head, or the four released sizes; never a guess."""
    if told is not None and asked is not None and told != asked:
        raise Refusal("--n-head is {asked}, but {file} says n_head is {told}.", asked=asked, file=file, told=told)
    official = OFFICIAL.get((sizes["n_embd"], sizes["n_layer"]))
    heads = next((heads for heads in (told, asked, official) if heads is not None), None)
    if heads is None:
        raise UnknownHeads(
            "The number of attention heads is in no shape, and a model of width {width} with {layers} layers is none "
            "of OpenAI's: give it with --n-head, or put its hparams.json beside the checkpoint.",
            width=sizes["n_embd"],
            layers=sizes["n_layer"],
        )
    if heads < 1 or sizes["n_embd"] % heads:
        raise UnknownHeads("n_head {heads} does not divide n_embd {width}.", heads=heads, width=sizes["n_embd"])
    return heads, f"from {file}" if told else "from --n-head" if asked else N_("as in OpenAI's model of this size")


def tensorflow_shapes(sizes: dict[str, int], inner: int) -> dict[str, tuple[int, ...]]:
    """The shape of every variable in TensorFlow: matrices have a leading 1. `inner` is the width of the MLP."""
    e = sizes["n_embd"]
    ends = {"w": None, "g": (e,), "b": (e,)}
    special = {
        "model/wte": (sizes["vocab_size"], e),
        "model/wpe": (sizes["n_positions"], e),
        "attn/c_attn/w": (1, e, 3 * e),
        "attn/c_attn/b": (3 * e,),
        "attn/c_proj/w": (1, e, e),
        "mlp/c_fc/w": (1, e, inner),
        "mlp/c_fc/b": (inner,),
        "mlp/c_proj/w": (1, inner, e),
    }
    names = to_tensorflow(sizes["n_layer"]).values()
    return {name: special.get(name) or special.get("/".join(name.split("/")[2:])) or ends[name[-1]] for name in names}


def check_shapes(bundle: Bundle, sizes: dict[str, int], inner: int) -> None:
    """Every variable of the model is there with the shape it must have, and a head of its own has the embedding's."""
    shapes = tensorflow_shapes(sizes, inner)
    for name, shape in (shapes | ({HEAD: shapes["model/wte"]} if HEAD in bundle.variables else {})).items():
        if name not in bundle.variables:
            raise Refusal("{name} is missing from the checkpoint.", name=name)
        if bundle.variables[name].shape != shape:
            raise Refusal(
                "{name} has shape {shape}; it must be {wanted}.",
                name=name,
                shape=list(bundle.variables[name].shape),
                wanted=list(shape),
            )
