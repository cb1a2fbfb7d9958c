"""Environments of their own for other people's packages, made once and kept in the user's cache.

What a client of the API drags along (LangChain, datasets, scikit-learn) belongs neither into the server's environment nor
into that of its tests. One made here sees the packages of the environment that runs it where it asks for that (torch and
transformers are large), and its own first.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import platformdirs

from generate import write_whole

ROOT = Path(platformdirs.user_cache_dir("rubric")) / "environments"
CLIENTS = ("openai==3.57.0", "langchain-openai==1.7.4", "llm==0.36")
LM_EVAL = ("lm_eval[api]==0.4.13",)


def environment(name: str, requirements: tuple[str, ...], shares: bool = False) -> Path:
    """The python of an environment with these packages, which is made unless it is there; raises CalledProcessError.

    With `shares` it has ours besides, and pip installs nothing that is there already.
    """
    wanted = "\n".join((sys.version, sys.prefix if shares else "", *requirements))
    folder = ROOT / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)  # of an installation that was broken off
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    if shares:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        theirs = folder / "lib" / version / "site-packages" / "shared.pth"
        write_whole(theirs, (sysconfig.get_path("purelib") + "\n").encode())
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    run(*pip, "install", "--quiet", *requirements)
    write_whole(folder / "ready", wanted.encode())
    return python


def run(*command: str) -> None:
    """Run a command to its end; what it printed is shown where it fails."""
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": ""})


if __name__ == "__main__":
    print(environment("clients", CLIENTS))
    print(environment("lm-eval", LM_EVAL, shares=True))
