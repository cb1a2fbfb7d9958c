"""The weights of a folder as tensors, in whichever files and by whichever names they are stored."""

import os
from collections.abc import Iterator, Mapping

import torch
from safetensors import safe_open
from torch import Tensor

from generate.errors import Refusal
from generate.folders.model_folder import ModelFolder
from generate.folders.tensors import HEAD, absent_biases, tensor_shapes
from generate.folders.weights import Stored, stored_tensors


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a checked folder by the names that `tensor_shapes` has, each read anew whenever it is asked for.

    Asking raises Refusal when a number is not finite. A head that differs from the embedding is the model's own, whatever
    config.json says, as in `transformers`; biases that the model was made without are zeros.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype):
        self._folder, self._device, self._dtype = folder, device, dtype
        for file in folder.weights:
            expect(file)
        found = stored_tensors(folder.name, folder.weights)
        wanted = tensor_shapes(folder.config).keys() | {HEAD}
        self._stored: dict[str, Stored] = {name: found[name] for name in wanted & found.keys()}
        self._absent = absent_biases(folder.config, found)
        if HEAD in self._stored and torch.equal(self._read(HEAD), self._read("wte.weight")):
            del self._stored[HEAD]

    def __getitem__(self, name: str) -> Tensor:
        if name in self._absent:
            return torch.zeros(self._absent[name], dtype=self._dtype, device=self._device)
        tensor = self._read(name).to(self._device, self._dtype, copy=True)
        if not all(bound.isfinite() for bound in tensor.aminmax()):  # NaN is both
            raise Refusal(
                "{model}: {name} holds NaN or infinity; the weights are damaged, copy them again.",
                model=self._folder.name,
                name=name,
            )
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._stored.keys() | self._absent.keys()))

    def __len__(self) -> int:
        return len(self._stored.keys() | self._absent.keys())

    def _read(self, name: str) -> Tensor:
        """As it is stored. The file is opened each time: what it was mapped for leaves memory with the tensor."""
        stored = self._stored[name]
        with safe_open(str(stored.file), "pt") as opened:
            return opened.get_tensor(stored.key)


def expect(file: os.PathLike) -> None:
    """Let the system begin to read a file, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        with open(file, "rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def read_tensors(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a folder, as `StoredTensors` has them; raises Refusal when a number is not finite."""
    return dict(StoredTensors(folder, device, dtype))
