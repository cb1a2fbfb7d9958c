"""What of the machine this process may use."""

import ctypes
import os
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bfloat16() -> bool:
    """Whether this CPU has units for bfloat16; other kinds than x86 are taken to.

    In place of them float32's do the work, after two conversions: a prompt then takes six times as long as in float32, and
    which of the two is faster is a matter of luck where it is measured by a short one.
    """
    can = torch.cpu.get_capabilities()
    return can.get("architecture") != "x86_64" or bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def keep_freed_memory() -> None:
    """Tell glibc to keep up to 256 MB of freed memory instead of giving it back to the system after every step.

    A step's larger results are 6 MB; taking those anew from the system each time cost 6 ms of a step of 50.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
            mallopt(M_TRIM_THRESHOLD, 256 << 20)
