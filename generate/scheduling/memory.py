"""How much of the model's work fits into memory."""

import os
from pathlib import Path

import torch

from generate.folders.config import Config
from generate.folders.model_folder import ModelFolder
from generate.folders.tensors import tensor_shapes
from generate.transformer.bucket import rooms
from generate.transformer.int8.model import EMBEDDING
from generate.transformer.kv_cache import kv_bytes
from generate.transformer.model import GPT2, PRECISIONS


def free_bytes(device: torch.device) -> int:
    """Bytes to be had on a device without swapping."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()


def rows_that_fit(model: GPT2) -> int:
    """How many rows with a full window fit into half of the memory that is free now; at least 1.

    On a GPU each bucket has its memory for all rows at once, and keeps it.
    """
    most = model.config.n_positions
    positions = sum(rooms(most)) if model.device.type == "cuda" else most
    return max(1, free_bytes(model.device) // 2 // kv_bytes(model.config, positions, model.dtype))


def loading_bytes(folder: ModelFolder, precision: str) -> int:
    """Bytes that a model takes at the most while it is loaded: its tensors, and the packed ones made from them. In int8 the
    tensors come one by one, of which the embedding is the largest.

    `auto` may have to hold it in float32, to compare, while it is loaded in another precision.
    """
    if precision == "auto":
        held = model_bytes(folder.config, "float32")
        others = (held + loading_bytes(folder, other) for other in PRECISIONS if other != "float32")
        return max(loading_bytes(folder, "float32"), *others)
    if precision == "int8":
        embedding = folder.config.vocab_size * folder.config.n_embd * PRECISIONS[precision].itemsize
        return model_bytes(folder.config, precision) + 2 * embedding  # as it is stored, and as a tensor
    return tensor_bytes(folder.config, PRECISIONS[precision].itemsize) + model_bytes(folder.config, precision)


def model_bytes(config: Config, precision: str) -> int:
    """Bytes of a loaded model: the packed products, and the embeddings once more for looking up (float16 for int8)."""
    itemsize = EMBEDDING.itemsize if precision == "int8" else PRECISIONS[precision].itemsize
    embeddings = (config.vocab_size + config.n_positions) * config.n_embd * itemsize
    return embeddings + tensor_bytes(config, 1 if precision == "int8" else PRECISIONS[precision].itemsize)


def tensor_bytes(config: Config, itemsize: int) -> int:
    """Bytes of all of a GPT-2's tensors at `itemsize` bytes a number."""
    total = 0
    for shape in tensor_shapes(config).values():
        count = itemsize
        for size in shape:
            count *= size
        total += count
    return total


def free_memory() -> int:
    """Bytes of main memory to be had without swapping; where Linux does not tell, the pages nobody uses.

    Inside a container the control group's limit counts where it is lower.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    return min(free, free_in_group())


def free_in_group(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes left to the container's control group (version 2); 2**62 where it has no limit."""
    limit, used = root / "memory.max", root / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return 1 << 62
    stat = root / "memory.stat"
    cached = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    taken = int(used.read_text()) - int(cached.get("inactive_file", 0))  # files that were read count, but make room
    return max(0, int(limit.read_text()) - taken)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out; torch's allocator of main memory raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def poisoned(error: Exception) -> bool:
    """Whether the device itself failed, so that nothing on it can be trusted any more."""
    return isinstance(error, torch.AcceleratorError)
