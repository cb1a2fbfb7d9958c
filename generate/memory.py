"""How much of the model's work fits into memory."""

import os
from pathlib import Path

import torch

from generate.cache import kv_bytes
from generate.model import GPT2


def rows_that_fit(model: GPT2) -> int:
    """How many rows with a full window fit into half of the memory that is free now; at least 1."""
    free = torch.cuda.mem_get_info(model.device)[0] if model.device.type == "cuda" else free_memory()
    return max(1, free // 2 // kv_bytes(model.config, model.config.n_positions, model.dtype))


def free_memory() -> int:
    """Bytes of main memory to be had without swapping; where Linux does not tell, the pages nobody uses."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
