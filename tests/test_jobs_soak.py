"""A conversion and a training end as undisturbed ones, whenever their server dies, with or without the whole machine."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress

import pytest
from conftest import ROOT
from tuning import WORDS
from waiting import until
from workshops import Workshop, pid_of

from webapp.jobs.child import is_held
from webapp.jobs.tables import JobState

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]
MOMENTS = int(os.environ.get("SOAK_MOMENTS", 20))  # of each kind of job
PATIENCE = 600  # seconds for a job that takes ten; a machine that soaks may have other work
TRAINING = (
    "text.txt",
    "--model=tiny",
    "--documents=line",
    "--steps=30",
    "--block-size=32",
    "--batch-size=4",
    "--sample-every=10",
)
CONVERSION = (str(ROOT / "tests/fixtures/tensorflow/openai"),)


def some_lines(folder) -> None:
    """The text of a training, in its job's folder."""
    words = WORDS.split()
    lines = (" ".join(random.Random(n).choices(words, k=9)) for n in range(300))
    (folder / "text.txt").write_text("\n".join(lines))


@pytest.mark.parametrize(("kind", "arguments"), [("finetune", TRAINING), ("convert", CONVERSION)])
def test_a_job_ends_as_an_undisturbed_one_whenever_its_server_dies(
    workshop, shop_settings, writer, model, kind, arguments
):
    shutil.copytree(model, workshop.jobs.models / "tiny")
    begun = time.monotonic()
    whole = workshop.submit(*arguments, kind=kind, makes="whole", fill=some_lines)
    workshop.until(whole, JobState.DONE, seconds=PATIENCE)
    lasts, numbers, here = time.monotonic() - begun, random.Random(1), workshop
    expected = (workshop.jobs.models / "whole" / "model.safetensors").read_bytes()
    for number in range(MOMENTS):
        name = f"parted{number}"
        job = here.submit(*arguments, kind=kind, makes=name, fill=some_lines)
        moment = time.monotonic() + lasts * numbers.random()
        until(lambda moment=moment, here=here: here.tend() or time.monotonic() > moment, lasts + PATIENCE)
        pid = pid_of(here.folder(job))
        here.die()
        if number % 2 and pid is not None:  # the machine's power, not the server alone
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda job=job, here=here: not is_held(here.folder(job)), PATIENCE, "its process's end")
        shown = {path.name for path in here.jobs.models.iterdir() if not path.name.startswith(".")}
        for made in shown - {"tiny"}:
            assert (here.jobs.models / made / "model.safetensors").read_bytes() == expected
        here = Workshop(shop_settings, writer.engine)
        here.until(job, JobState.DONE, seconds=PATIENCE)
        assert (here.jobs.models / name / "model.safetensors").read_bytes() == expected
        assert not [path.name for path in here.jobs.models.iterdir() if path.name.startswith(".")]
    here.die()
