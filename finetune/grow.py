"""A model with more layers that computes what it computed before: a head start for a deeper one."""

import copy

import torch
from transformers import GPT2LMHeadModel

from generate import Refusal


@torch.no_grad()
def add_layers(name: str, model: GPT2LMHeadModel, layers: int) -> None:
    """Deepen `model` to `layers`, in place. The new ones stand evenly among the old, each a copy of the one before it.

    Their projections into the residual stream are zero, so at first each passes on what it gets (Chen et al., Net2Net,
    arXiv:1511.05641, for depth). Raises Refusal when there are more layers already.
    """
    old = model.config.n_layer
    if layers < old:
        raise Refusal(
            "--layers {layers}: {model} has {old}, and there can only be added some.",
            layers=layers,
            model=name,
            old=old,
        )
    blocks = []
    for n in range(layers):
        source = n * old // layers
        block = copy.deepcopy(model.transformer.h[source])
        if n and source == (n - 1) * old // layers:
            for projection in (block.attn.c_proj, block.mlp.c_proj):
                projection.weight.zero_()
                projection.bias.zero_()
        block.attn.layer_idx = n
        blocks.append(block)
    model.transformer.h = torch.nn.ModuleList(blocks)
    model.config.n_layer = layers
