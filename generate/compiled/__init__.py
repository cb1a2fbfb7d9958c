"""What is machine code, compiled by numba when it is first used (10 seconds) and kept for the next start: GPT-2 in int8,
and the sampling of every precision on a CPU.

numba keeps what it compiled for as long as a function's own file is unchanged. Functions here are built from those of
other files, so the place where it is kept follows from all of them.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numba
import platformdirs

FOLDER = Path(__file__).parent
# all files with functions that are compiled; a test keeps it so
KERNELS = (
    "compiled/*.py",
    *(f"sampling/{name}.py" for name in ("at_once", "draw", "dry", "likeliest", "pressure", "spread")),
    *(f"transformer/int8/{name}.py" for name in ("attention", "fused", "levels", "rowwise")),
)


def cache_folder() -> str:
    """Beside the code; where that cannot be written to, in the user's cache; without one, a folder that is this process's own.

    Never one that others may make first: what is found there is run.
    """
    sources = b"".join(file.read_bytes() for kernel in KERNELS for file in sorted(FOLDER.parent.glob(kernel)))
    name = f"numba-{hashlib.sha256(sources).hexdigest()[:12]}"
    if os.access(FOLDER, os.W_OK):
        return str(FOLDER / "__pycache__" / name)
    kept = platformdirs.user_cache_path("rubric", appauthor=False) / name
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        return tempfile.mkdtemp(prefix="rubric-")
    return str(kept)


if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = cache_folder()
