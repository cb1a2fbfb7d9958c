"""What is particular about nanoGPT's ckpt.pt. Source: karpathy/nanoGPT, model.py and train.py."""

from generate import Refusal

TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
PADDED = 50_304  # rows of the embedding that train.py makes of the official 50,257 tokens, for a multiple of 64
SIZES = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "block_size": "n_positions",
    "vocab_size": "vocab_size",
}


def nanogpt_config(arguments: dict) -> dict:
    """`model_args` in the names of config.json; raises Refusal where they are not whole numbers.

    Its MLP has torch's exact GELU. (In older code it was GPT-2's own approximation, which no checkpoint tells.)
    """
    told = {}
    for name, ours in SIZES.items():
        value = arguments.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Refusal(
                "model_args says that {name} is {value!r:.40}, which is no whole number.", name=name, value=value
            )
        if value is not None:
            told[ours] = value
    return told | {"activation_function": "gelu"}
