"""The weights of a product in int8, laid out as the compiled pass reads them; nothing here is compiled."""

from typing import NamedTuple

import numpy as np

from generate.compiled.tiles import PANEL, PER_STEP
from generate.transformer.int8.rowwise import LEVELS, ZERO


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
    """Quantise weight [in, out] with a scale per output and lay it out in panels [out / 32, in / 4, 32, 4].

    `lowest` is what `quantise_above` is given for the inputs, None if they are rounded by `quantise`.
    """
    inputs, outputs = weight.shape
    scale = np.maximum(np.abs(weight).max(0) / LEVELS, np.float32(1e-20))
    whole = np.zeros((round_up(inputs, PER_STEP), linear.scale.shape[1]), np.int8)
    whole[:inputs, :outputs] = np.rint(weight / scale)
    panels = whole.reshape(-1, PER_STEP, whole.shape[1] // PANEL, PANEL).transpose(2, 0, 3, 1)
    linear.weight[layer].reshape(panels.shape)[:] = panels
    linear.scale[layer, :outputs] = scale
    if bias is not None:
        linear.bias[layer, :outputs] = bias
    sums = whole.sum(0, dtype=np.int32)
    if lowest is None:
        linear.start[layer] = -ZERO * sums
    else:
        linear.bias[layer] += sums * linear.scale[layer] * np.float32(lowest)
