"""The names of GPT-2's tensors in GGUF, llama.cpp's format. Source: `MODEL_TENSORS` and `TensorNameMap` in the gguf package."""

import re

ENDS = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"}
PARTS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
TURNED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")  # [out, in] there
LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.(\w+)\.(weight|bias)")


def to_gguf_name(name: str) -> str:
    """h.3.attn.c_attn.weight -> blk.3.attn_qkv.weight"""
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("h."):
        _, layer, part = stem.split(".", 2)
        return f"blk.{layer}.{PARTS[part]}.{kind}"
    return f"{ENDS[stem]}.{kind}"


def from_gguf_name(name: str) -> str:
    """blk.3.attn_qkv.weight -> h.3.attn.c_attn.weight; what is no tensor of a GPT-2 stays as it is."""
    found = LAYER.fullmatch(name)
    if found is not None:
        part = next((ours for ours, theirs in PARTS.items() if theirs == found[2]), None)
        return name if part is None else f"h.{found[1]}.{part}.{found[3]}"
    stem, _, kind = name.rpartition(".")
    end = next((ours for ours, theirs in ENDS.items() if theirs == stem), None)
    return name if end is None else f"{end}.{kind}"
