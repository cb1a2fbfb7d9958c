"""The image that Dockerfile makes, built and run here as compose.yaml runs it, on a Debian that mmdebstrap makes; `make soak`.

No registry of images is asked: Debian's buildah builds, without a daemon, on a base of that name, and Debian's podman runs.
Not with what is `long`: it fetches from Debian, npm and pip's index, and mounts, which a container of CI's may not be allowed to.
"""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import debian
import pytest
from browser import free_port, get, start_run
from conftest import ROOT
from test_empty_debian import answers, first_token
from waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

NEEDED = {name: name for name in ("buildah", "podman", "runc", "catatonit")}
BASE = "localhost/debian:bookworm-slim"  # what the Dockerfile begins with, where it is looked for first
# as compose.yaml has it, and no more open files and processes than a root without all rights may grant
HARDENED = (
    *("--init", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"),
)


class Containers:
    """Images and containers in a folder of their own."""

    def __init__(self, folder: Path):
        self.storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def call(self, program: str, *arguments: str, seconds=300) -> str:
        """What a program prints; what it says when it fails is told."""
        runtime = ["--runtime", "runc"] if program == "podman" else []
        command = [program, *self.storage, *runtime, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)
        assert done.returncode == 0, f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}"
        return done.stdout.strip()

    def build(self, root: Path, index: Path) -> None:
        """Build the base out of a Debian's folder, and on it the image, which takes torch from a folder."""
        packed = root.with_name("debian.tar")
        subprocess.run(["tar", "-C", str(root), "--exclude=./dev/*", "-cf", str(packed), "."], check=True, timeout=300)
        base = self.call("buildah", "from", "scratch")
        self.call("buildah", "add", "--quiet", base, str(packed), "/")
        self.call("buildah", "commit", "--quiet", "--rm", base, BASE)
        offline = ["--isolation", "chroot", "--pull-never", "--network", "host", "--volume", f"{index}:/torch:ro"]
        built = ["--format", "docker", "--build-arg", "TORCH_INDEX=file:///torch", "--tag", "rubric"]
        self.call("buildah", "bud", *offline, *built, ".", seconds=2000)

    def close(self) -> None:
        """End and forget all of them."""
        self.call("podman", "rm", "--all", "--force", "--time", "5")
        self.call("podman", "rmi", "--all", "--force")


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    """In which the image is."""
    folder = tmp_path_factory.mktemp("containers")
    try:
        debian.require(NEEDED)
        root = debian.make(folder / "root")
    except debian.Impossible as why:
        pytest.fail(str(why), pytrace=False)
    _, torch = debian.wheels(folder / "wheels")
    containers = Containers(folder)
    containers.build(root, debian.index(folder / "torch", torch))
    yield containers
    containers.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(containers):
    """The image as compose.yaml runs it, in this machine's own network."""
    port = free_port()
    given = ["--env", "HOST=127.0.0.1", "--env", f"PORT={port}", "--volume", "texts:/data"]
    beside = ["--detach", "--name", "rubric", "--network", "host", "--health-interval", "disable"]
    containers.call("podman", "run", *beside, *HARDENED, *given, "rubric")
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(url), 400, lambda: containers.call("podman", "logs", "rubric"))
    return SimpleNamespace(url=url)


def within(containers, *command: str) -> str:
    return containers.call("podman", "exec", "rubric", *command)


def test_it_runs_as_user_1000_and_writes_nowhere_but_to_its_volume(containers, server):
    assert within(containers, "id", "-u") == "1000"
    assert within(containers, "stat", "-c", "%u %a", "/data") == "1000 700"
    assert within(containers, "sh", "-c", "touch /opt/rubric/x 2>/dev/null || echo no") == "no"
    assert within(containers, "sh", "-c", "ls -d /data/cache/rubric/numba-*").startswith("/data/cache/")


def test_its_own_check_finds_it_well_and_nothing_where_nobody_answers(containers, server):
    containers.call("podman", "healthcheck", "run", "rubric")
    told = containers.call("podman", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", "rubric")
    with pytest.raises(AssertionError, match="refused"):
        containers.call("podman", "exec", "--env", "PORT=1", "rubric", *json.loads(told)[1:])


def test_what_was_written_outlives_the_container(containers, server):
    run = start_run(server, prompt="Once upon a time", max_new_tokens="20")
    assert "<span" in first_token(run)
    until(lambda: json.loads(get(f"{run}.json"))["state"] == "done")
    written = get(f"{run}.txt")
    containers.call("podman", "stop", "--time", "20", "rubric")
    assert containers.call("podman", "inspect", "--format", "{{.State.ExitCode}}", "rubric") == "0"
    containers.call("podman", "start", "rubric")
    until(lambda: answers(server.url), 400)
    assert get(f"{run}.txt") == written
