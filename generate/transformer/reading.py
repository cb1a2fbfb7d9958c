"""The weights of a folder as tensors, in whichever files and by whichever names they are stored."""

import torch
from safetensors import safe_open
from torch import Tensor

from generate.errors import Refusal
from generate.folders.model_folder import ModelFolder
from generate.folders.tensors import HEAD, absent_biases, tensor_shapes
from generate.folders.weights import stored_tensors


def read_tensors(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a checked folder by the names that `tensor_shapes` has; raises Refusal when a number is not finite.

    A head that differs from the embedding is the model's own, whatever config.json says, as in `transformers`; biases that
    the model was made without are zeros.
    """
    found = stored_tensors(folder.name, folder.weights)
    wanted = tensor_shapes(folder.config).keys() | {HEAD}
    tensors = {
        name: torch.zeros(shape, dtype=dtype, device=device)
        for name, shape in absent_biases(folder.config, found).items()
    }
    for file in folder.weights:
        with safe_open(str(file), "pt") as opened:
            for name in sorted(name for name in wanted & found.keys() if found[name].file == file):
                tensors[name] = opened.get_tensor(found[name].key).to(device, dtype, copy=True)
                if not tensors[name].isfinite().all():
                    raise Refusal(
                        "{model}: {name} holds NaN or infinity; the weights are damaged, copy them again.",
                        model=folder.name,
                        name=name,
                    )
    if HEAD in tensors and torch.equal(tensors[HEAD], tensors["wte.weight"]):
        del tensors[HEAD]
    return tensors
