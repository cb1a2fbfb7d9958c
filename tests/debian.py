"""An empty Debian in a folder, as mmdebstrap makes it, and commands in it with processes and mounts of their own.

Needs root, and a machine that lets root mount. What apt, pip and npm are set to on this machine (sources, an index, a
certificate) goes in with it, and the file of torch that pip takes here, so that what is tried is Rubric and not where this
machine fetches from.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from browser import ROOT

RELEASE = "bookworm"
CERTIFICATES = "etc/pip-certificates.crt"  # not where Debian puts its own, over which it writes
PATHS = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
NEEDED = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux"}  # programs, and the packages of Debian's with them


class Impossible(Exception):
    """This machine cannot do it; says why."""


def require(needed: dict[str, str]) -> None:
    """Raise Impossible unless these programs are here, and we are root."""
    if os.geteuid():
        raise Impossible("Only root can make a Debian in a folder, and enter it.")
    if missing := [package for program, package in needed.items() if not shutil.which(program, path=PATHS["PATH"])]:
        raise Impossible(f"Missing here, on Debian: apt install {' '.join(missing)}")


def make(folder: Path) -> Path:
    """A Debian with nothing but what each one has, in a folder that is made; raises Impossible, CalledProcessError."""
    require(NEEDED)
    options = folder.with_name("apt.conf")
    options.write_text(asked("apt-config", "dump", "--format", '%F "%v";%n', "Acquire::http", "Acquire::https"))
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--aptopt={options}", RELEASE, str(folder), "-"]
    done = subprocess.run(
        command, env=os.environ | PATHS, input=sources(), capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise Impossible(f"mmdebstrap could not make a Debian here: {done.stderr[-2000:]}")
    shutil.copy("/etc/resolv.conf", folder / "etc")
    configure_pip(folder)
    configure_npm(folder)
    return folder


def sources() -> str:
    """Where apt fetches Debian itself from on this machine, as lines of a sources.list; raises Impossible."""
    line = "$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = asked("apt-get", "indextargets", "--format", line, "Origin: Debian", "Created-By: Packages")
    found = [line.partition(" ")[2] for line in listed.splitlines() if line.startswith(RELEASE)]
    if not found:
        raise Impossible(f"apt knows no Debian {RELEASE} here; `apt-get update` may help.")
    return "\n".join([*found, ""])


def asked(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def configure_pip(root: Path) -> None:
    """Have pip in a Debian ask the index that it asks here, and trust whom it trusts here."""
    given = {name: pip_setting(name) for name in ("index-url", "cert", "default-timeout")}
    if given["cert"]:
        (root / CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(given["cert"], root / CERTIFICATES)
        given["cert"] = f"/{CERTIFICATES}"
    lines = [f"{name} = {value}" for name, value in given.items() if value]
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def configure_npm(root: Path) -> None:
    """Have npm in a Debian trust whom pip trusts there: one who looks into what is fetched looks into both."""
    if (root / CERTIFICATES).exists():
        (root / "root/.npmrc").write_text(f"cafile=/{CERTIFICATES}\n")


def pip_setting(name: str) -> str:
    """One of pip's settings here, whoever made it; empty where nobody did."""
    listed = pip("config", "list")
    found = re.findall(rf"^(?:global|:env:)\.{name}='(.*)'$", listed, re.M)
    return found[-1] if found else ""


def pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def wheels(folder: Path) -> tuple[Path, Path]:
    """The wheel of this checkout, and that of torch as pip takes it here, put into a folder that is made."""
    pip("wheel", str(ROOT), "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    (pinned,) = re.findall(r"(?m)^torch==\S+", (ROOT / "requirements.txt").read_text())
    pip("download", pinned, "--quiet", "--no-deps", "--dest", str(folder))
    (rubric,), (torch,) = folder.glob("rubric-*.whl"), folder.glob("torch-*.whl")
    return rubric, torch


def index(folder: Path, wheel: Path) -> Path:
    """A folder that pip reads as an index (--index-url file:///...) with one wheel in it."""
    name = wheel.name.partition("-")[0]
    (folder / name).mkdir(parents=True)
    shutil.copy(wheel, folder / name)
    (folder / "index.html").write_text(f'<a href="{name}/">{name}</a>')
    (folder / name / "index.html").write_text(f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')
    return folder


def within(root: Path, script: str) -> list[str]:
    """The command that runs a script of bash's in a Debian as root; whatever it starts ends with it when it is killed, as
    unshare heeds no gentler signal."""
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={root}/proc"]
    clean = [
        "env",
        "-i",
        "HOME=/root",
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    return [*apart, "chroot", str(root), *clean, "bash", "-euo", "pipefail", "-c", script]
