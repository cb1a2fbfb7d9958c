"""lm-evaluation-harness, unmodified, believes what the API says: its numbers are those of `transformers` in float32.

A small share here; `make soak` runs all of it. What is evaluated on is a tale that was invented for this and that no model was
trained on; RUBRIC_TALES names a longer text of that kind.
"""

import os
import shutil
from pathlib import Path

import pytest
from browser import Server
from conftest import MODELS, ROOT
from evaluation import Compared, against_transformers

CLOSE = 1e-3  # of log-likelihoods; of those of single words and sentences a tenth of it
SENTENCES = ("cloze", "choice")


@pytest.fixture
def storyteller(tmp_path):
    """A server that has nothing but the storyteller, in float32."""
    shutil.copytree(MODELS / "storyteller", tmp_path / "models" / "storyteller")
    server = Server(tmp_path, RUBRIC_MODELS=str(tmp_path / "models")).start()
    yield server
    server.stop()
    assert "Traceback" not in server.log.read_text()


def tales() -> str:
    """What there is to be read."""
    return Path(os.environ.get("RUBRIC_TALES") or ROOT / "tests" / "tale.txt").read_text()


def evaluated(server, share: float) -> dict[str, Compared]:
    found = against_transformers(server.url, MODELS / "storyteller", tales(), share)
    assert all(one.other_greedy == 0 for one in found.values())
    assert all(one.worst < CLOSE for one in found.values())
    assert all(found[task].worst < CLOSE / 10 for task in SENTENCES)
    return found


@pytest.mark.long
@pytest.mark.timeout(1800)  # the first time pip fetches the harness
def test_a_share_of_four_tasks_has_the_numbers_of_transformers(storyteller):
    assert sum(one.count for one in evaluated(storyteller, 0.02).values()) > 40


@pytest.mark.soak
def test_four_tasks_have_the_numbers_of_transformers(storyteller):
    found = evaluated(storyteller, 1)
    assert sum(one.count for one in found.values()) >= 2000
    assert sum(one.likeliest for one in found.values()) > 0
