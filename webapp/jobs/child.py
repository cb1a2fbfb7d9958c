"""One process of a job: started at low priority and tied to us by a pipe, so that it saves and ends when we do."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from generate import files

try:
    import fcntl
except ImportError:  # not on Windows: there a server that starts anew does not see what an earlier one has left running
    fcntl = None

SECRETS = ("SECRET_KEY", "DATABASE_URL", "RUBRIC_ENGINE_KEY")  # of the server alone
FIRST_TO_GO = "800"  # of 1000, as Linux counts: the job can be taken up again, what the server writes is watched
LOCK, OUTPUT = "lock", "output.txt"  # files in a job's folder


class Child:
    """A process that does `python -m PROGRAM ARGUMENTS` in a job's `folder`, and tells its progress in `journal` there.

    Raises BlockingIOError while one of a server before us is still saving, and OSError where it cannot be started.
    """

    def __init__(self, folder: Path, program: str, arguments: Sequence[str], journal: str, models: Path, nice: int):
        scratch = folder / "tmp"
        command = [sys.executable, "-P", "-m", program]  # -P: a file that somebody brought is no module
        command += [*arguments, f"--journal={folder / journal}", "--tied"]
        with held(folder) as lock, (folder / OUTPUT).open("ab") as output:
            shutil.rmtree(scratch, ignore_errors=True)  # one that was killed may have left something
            scratch.mkdir()
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(os.environ, models) | {"TMPDIR": str(scratch)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[lock] if lock is not None else [],  # so it is held for as long as the process lives
                process_group=0,  # Ctrl-C is for the server, which tells it by the pipe
            )
        give_way(self._process.pid, nice)

    def status(self) -> int | None:
        """How it ended, as `subprocess` says; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """How it ended, as `subprocess` says; None where it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Let go of the pipe: it saves what it has, and ends."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()


@contextlib.contextmanager
def held(folder: Path):
    """The lock of a job's folder while it is handed to a child; raises BlockingIOError while another holds it."""
    if fcntl is None:
        yield None
        return
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file.fileno()


def is_held(folder: Path) -> bool:
    """Whether a process of a job is still there, whoever started it."""
    try:
        with held(folder):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def environment(ours: Mapping[str, str], models: Path) -> dict[str, str]:
    """What a child finds in its environment: what we do, but for what only a server needs."""
    paths = [str(files.BESIDE), *filter(None, [ours.get("PYTHONPATH")])]
    kept = {name: value for name, value in ours.items() if name not in SECRETS}
    told = {"LC_ALL": "C.UTF-8"}  # what it says is put into the language of who reads it
    return kept | told | {"RUBRIC_MODELS": str(models), "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


def give_way(pid: int, nice: int) -> None:
    """Let a process give way to the writing, and go first where memory runs out.

    It stays in our session, beyond which Linux would not compare priorities (sched(7), autogroups).
    """
    if nice and hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # it has ended already, or systemd's filter allows no priorities
            os.setpriority(os.PRIO_PROCESS, pid, nice)
    with contextlib.suppress(OSError):  # not Linux, or it has ended
        Path(f"/proc/{pid}/oom_score_adj").write_text(FIRST_TO_GO)


def last_words(folder: Path) -> str:
    """The last line that a process printed; "" where it printed none."""
    try:
        with (folder / OUTPUT).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip()[-400:] for line in reversed(lines) if line.strip()), "")
