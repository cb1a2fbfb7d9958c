"""The weights of a product in int8, laid out as the compiled pass reads them."""

from typing import NamedTuple

import numpy as np

from generate.compiled.tiles import PANEL, PER_STEP
from generate.transformer.int8.levels import pack_columns, pack_rows
from generate.transformer.int8.rowwise import ZERO


class Linear(NamedTuple):
    """One product of every layer: weights [n_layer, panels * steps * 128], the others [n_layer, outputs]."""

    weight: np.ndarray  # int8, in the order in which `product_8` reads it
    start: np.ndarray  # int32: -128 times the weights' sums, which the zero point adds
    scale: np.ndarray  # float32
    bias: np.ndarray  # float32


def round_up(number: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-number // unit) * unit


def empty_linear(layers: int, inputs: int, outputs: int) -> Linear:
    """Room for one product [inputs, outputs] in each of so many layers, both sizes rounded up to what a panel takes."""
    inputs, outputs = round_up(inputs, PER_STEP), round_up(outputs, PANEL)
    one = (layers, outputs)
    return Linear(
        np.zeros((layers, inputs * outputs), np.int8),
        np.zeros(one, np.int32),
        np.zeros(one, np.float32),
        np.zeros(one, np.float32),
    )


def fill_linear(linear, layer: int, weight: np.ndarray, bias: np.ndarray | None, lowest: float | None = None) -> None:
    """Quantise weight float32 [in, out] with a scale per output and lay it out in panels [out / 32, in / 4, 32, 4].

    `lowest` is what `quantise_above` is given for the inputs, None if they are rounded by `quantise`.
    """
    words = linear.weight[layer].view(np.int32).reshape(linear.scale.shape[1] // PANEL, -1, PANEL)
    sums = np.zeros_like(linear.start[layer])
    as_stored, pack = (weight, pack_columns) if weight.flags.c_contiguous else (weight.T, pack_rows)
    as_stored = np.ascontiguousarray(as_stored)
    pack(as_stored, as_stored.view(np.int32), words, linear.scale[layer], sums)
    if bias is not None:
        linear.bias[layer, : len(bias)] = bias
    if lowest is None:
        linear.start[layer] = -ZERO * sums
    else:
        linear.bias[layer] += sums * linear.scale[layer] * np.float32(lowest)
