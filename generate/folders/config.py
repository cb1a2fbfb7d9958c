"""config.json: GPT-2's hyper-parameters in the names that `transformers` gives them."""

from dataclasses import dataclass
from pathlib import Path

from generate.errors import Refusal
from generate.folders.json_files import is_index, read_json
from generate.folders.strangers import refuse_other_type

ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu")
SIZES = {"vocab_size": 10**7, "n_positions": 10**7, "n_embd": 10**6, "n_layer": 10**4, "n_head": 10**6}


@dataclass(frozen=True)
class Config:
    """GPT-2's hyper-parameters: sizes in numbers of tokens, positions and features."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    activation: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attention: bool = True
    scale_by_layer: bool = False
    tied: bool = True  # whether the head is the embedding

    @property
    def most_kept(self) -> int:
        """How many of a text's first tokens may stay in the window: a quarter, so that a window which begins anew with
        half of its size always has newer ones too."""
        return self.n_positions // 4


def read_config(path: Path) -> tuple[Config, int | None]:
    """Return the hyper-parameters and the end token's id that config.json names, if any.

    reorder_and_upcast_attn is not looked at: it only orders how 16-bit attention is rounded, which ours does in 32.
    """
    raw = read_json(path, "config.json")
    if raw.get("model_type", "gpt2") != "gpt2":
        refuse_other_type(path.name, raw["model_type"])
    if "vocab_size" not in raw and "n_vocab" in raw:
        raise Refusal(
            "{model}: config.json has the names of OpenAI's hparams.json (n_vocab, n_ctx); in config.json they are "
            "vocab_size and n_positions: rename them, or make the folder with `python -m convert`.",
            model=path.name,
        )
    sizes = {}
    for name, most in SIZES.items():
        value = raw.get(name, raw.get("n_ctx") if name == "n_positions" else None)
        sizes[name] = checked_size(path, name, value, most)
    if sizes["n_embd"] % sizes["n_head"]:
        raise Refusal(
            "{model}: n_head {heads} does not divide n_embd {width}; correct config.json.",
            model=path.name,
            heads=sizes["n_head"],
            width=sizes["n_embd"],
        )
    activation = raw.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise Refusal(
            "{model}: activation_function {activation!r} is unknown; known are {known}.",
            model=path.name,
            activation=activation,
            known=", ".join(ACTIVATIONS),
        )
    if raw.get("add_cross_attention"):
        raise Refusal(
            "{model}: it has cross-attention; only a plain GPT-2 language model can be served.", model=path.name
        )
    inner = 4 * sizes["n_embd"] if raw.get("n_inner") is None else raw["n_inner"]
    epsilon = raw.get("layer_norm_epsilon", 1e-5)
    if isinstance(epsilon, bool) or not (isinstance(epsilon, int | float) and 0 <= epsilon <= 1):
        raise Refusal(
            "{model}: layer_norm_epsilon in config.json must be a number from 0 to 1, not {epsilon!r}.",
            model=path.name,
            epsilon=epsilon,
        )
    config = Config(
        **sizes,
        n_inner=checked_size(path, "n_inner", inner, 10**7),
        activation=activation,
        layer_norm_epsilon=epsilon,
        scale_attention=read_flag(path, raw, "scale_attn_weights", True),
        scale_by_layer=read_flag(path, raw, "scale_attn_by_inverse_layer_idx", False),
        tied=read_flag(path, raw, "tie_word_embeddings", True),
    )
    return config, raw.get("eos_token_id")


def read_flag(path: Path, raw: dict, name: str, default: bool) -> bool:
    """`raw[name]`, or `default` where it is missing; raises Refusal for what is neither true nor false."""
    value = raw.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(
            "{model}: {name} in config.json must be true or false, not {value!r:.60}.",
            model=path.name,
            name=name,
            value=value,
        )
    return value


def checked_size(path: Path, name: str, value: object, most: int) -> int:
    """`value`, if it is a whole number from 1 to `most`; raises Refusal."""
    if not is_index(value, most + 1) or value == 0:
        raise Refusal(
            "{model}: {name} in config.json must be a whole number from 1 to {limit:,}, not {value!r:.60}.",
            model=path.name,
            name=name,
            limit=most,
            value=value,
        )
    return value
