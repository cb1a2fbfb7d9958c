"""A throw-away PostgreSQL, for tests of what is stored."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import free_port
from waiting import until_up


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres; Debian keeps them out of the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb", path=os.pathsep.join([*map(str, debian), os.environ["PATH"]]))
    return Path(initdb).parent if initdb else None


@contextmanager
def postgresql() -> Iterator[str]:
    """Yields the address of an empty database that listens on 127.0.0.1 alone and is gone afterwards."""
    programs, port, secret = postgres_programs(), free_port(), secrets.token_hex(16)
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}  # root may not
    with tempfile.TemporaryDirectory(prefix="rubric-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "secret").write_text(secret)
        if who:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "secret", "postgres")
        with (folder / "log").open("wb") as log:
            common = {"cwd": folder, "stdout": log, "stderr": log, **who}
            make = ["--pgdata=data", "--username=rubric", "--pwfile=secret", "--auth=scram-sha-256"]
            plain = ["--encoding=UTF8", "--locale=C", "--no-sync"]
            made = subprocess.run([programs / "initdb", *make, *plain], check=False, **common)
            assert made.returncode == 0, (folder / "log").read_text()
            settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
            options = [part for setting in settings for part in ("-c", setting)]
            process = subprocess.Popen([programs / "postgres", "-D", "data", *options], **common)
        try:
            wait_until_ready(process, programs, port, folder / "log")
            yield f"postgresql://rubric:{secret}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # end what is open, then end well
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(process: subprocess.Popen, programs: Path, port: int, log: Path) -> None:
    ask = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]
    until_up(process, lambda: subprocess.run(ask, check=False).returncode == 0, log)
