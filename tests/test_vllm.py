"""Against a real vLLM, by hand: VLLM_URL is its address, or two between commas, serving the storyteller in float32.

    VLLM_URL=http://127.0.0.1:8400 python -m pytest tests/test_vllm.py -m soak

docs/scale.md says how to start one on a machine without a GPU. Without an address there are no such tests. One starts two
replicas itself, of which it kills one; it runs where VLLM_PYTHON is the python of an environment that has vLLM.
"""

import os
import signal
import subprocess
from contextlib import closing

import pytest
from browser import free_port, serving
from conftest import finished, parse_events, started
from replicas import killed_in_the_middle
from test_soak import crowd

from generate import LocalEngine, RemoteEngine, Request, Sampling, files, find_model, known

ADDRESSES = [one for one in os.environ.get("VLLM_URL", "").split(",") if one]
KEY = os.environ.get("VLLM_KEY", "")
PYTHON = os.environ.get("VLLM_PYTHON", "")
__test__ = bool(ADDRESSES or PYTHON)
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

BEGINNINGS = ["Once upon a time", "The old king", "There was a fox who", "“Dear child,” said", "In the forest"]
MIDDLES = ["", " there lived", " and his three daughters went", " had nothing but", " in a far country"]
ENDS = ["", " a very long time ago, before anybody"]
CLOSE = 1e-3


@pytest.fixture(scope="module")
def engine():
    if not ADDRESSES:
        pytest.skip("VLLM_URL names no vLLM")
    with closing(started(RemoteEngine(files.MODELS, ADDRESSES, KEY).start())) as engine:
        yield engine


@pytest.fixture(scope="module")
def here():
    local = LocalEngine(files.MODELS, device="cpu", precision="float32", threads=1).start("storyteller")
    with closing(started(local)) as local:
        yield local


@pytest.fixture(scope="module")
def folder():
    return find_model(files.MODELS, "storyteller")


def submit(engine, folder, prompt, **options):
    request = Request(folder, Sampling(**({"seed": 1, "temperature": 0, "max_new_tokens": 200} | options)))
    return engine.submit(request, request.new_log(folder.encode_prompt(prompt)))


def test_greedy_texts_are_ours_or_part_where_two_are_equally_likely(engine, here, folder):
    prompts = [beginning + middle + end for beginning in BEGINNINGS for middle in MIDDLES for end in ENDS]
    pairs = [(submit(engine, folder, prompt), submit(here, folder, prompt)) for prompt in prompts]
    same = furthest = 0
    for theirs, ours in pairs:
        a, b = finished(theirs, 900).samples[0].read(), finished(ours, 900).samples[0].read()
        length = min(len(a), len(b))
        parted = (
            int((a["id"][:length] != b["id"][:length]).argmax())
            if (a["id"][:length] != b["id"][:length]).any()
            else None
        )
        if parted is not None:
            likeliest = b["alt_logprobs"][parted]
            assert likeliest[0] - likeliest[1] < CLOSE, (parted, likeliest[:2])
        else:
            assert len(a) == len(b)
            same += 1
        shared = slice(0, parted)
        furthest = max(furthest, float(abs(a["logprob"][shared] - b["logprob"][shared]).max(initial=0)))
        prompt = abs(theirs.prompt["logprob"][1:] - ours.prompt["logprob"][1:])
        furthest = max(furthest, float(prompt.max(initial=0)))
    print(f"\n{same} of {len(pairs)} texts are the same; log-probabilities differ by {furthest:.2e} at the most")
    assert len(pairs) == 50
    assert furthest < CLOSE


def test_what_is_told_of_a_token(engine, folder):
    run = finished(submit(engine, folder, "Once upon a time", temperature=1, top_k=7, max_new_tokens=20))
    records = run.samples[0].read()
    assert known(records, "logprob").all()
    assert set(known(records, "rank")) == {engine.capabilities.rank}
    assert known(records, "sampled_logprob").all(), "seven were left, and ten are told"
    assert (run.prompt["rank"][1:] > 0).all()


def test_a_text_longer_than_the_window_is_written_on(engine, folder):
    run = finished(
        submit(engine, folder, "Once upon a time", temperature=1, max_new_tokens=1200, n_keep=4, min_new_tokens=1200),
        900,
    )
    assert (len(run.samples[0]), run.samples[0].finish_reason) == (1200, "length")


def test_thirty_viewers_each_see_their_own_text_as_it_is_written(tmp_path):
    if not ADDRESSES:
        pytest.skip("VLLM_URL names no vLLM")
    wish = {"prompt": "Once upon a time", "model": "storyteller", "max_new_tokens": "200", "min_new_tokens": "200"}
    behind = {"RUBRIC_ENGINE": ",".join(ADDRESSES), "RUBRIC_ENGINE_KEY": KEY, "RUBRIC_MODEL": "storyteller"}
    with serving(tmp_path, files.MODELS, **behind) as server:
        seen = crowd(server, [wish | {"seed": str(seed)} for seed in range(30)], 1)
    assert len(set(seen["texts"])) == 30
    assert [len(sample["tokens"]) for sample in seen["samples"]] == [200] * 30
    steps = [sum("id" in event for event in parse_events(stream)) for (stream,) in seen["streams"]]
    print(f"events with text that a viewer was sent, at the least: {min(steps)}")
    assert min(steps) > 10


SERVER = "-m vllm.entrypoints.openai.api_server --served-model-name storyteller --enforce-eager --enable-scale-out"
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture
def replicas(tmp_path):
    """Two of VLLM_PYTHON's, as (address, process); each with the processes that it starts in a group of its own."""
    if not PYTHON:
        pytest.skip("VLLM_PYTHON names no python that has vLLM")
    begun = []
    for number in range(2):
        port, log = free_port(), (tmp_path / f"{number}.log").open("wb")
        words = [PYTHON, *SERVER.split(), "--model", str(files.MODELS / "storyteller"), "--max-model-len", "512"]
        words += ["--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(words, env=os.environ | SETTINGS, stdout=log, stderr=log, start_new_session=True)
        begun.append((f"http://127.0.0.1:{port}", process))
    yield begun
    for _, process in begun:
        if process.poll() is None:
            kill(process)


def kill(process) -> None:
    """SIGKILL to it and to all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)


def test_of_two_replicas_one_is_killed_and_no_run_is_lost(replicas, folder):
    with closing(RemoteEngine(files.MODELS, [address for address, _ in replicas]).start()) as engine:
        _, told = killed_in_the_middle(engine, folder, lambda: kill(replicas[0][1]), 24, 300, 40)
    print(f"\n{told}")
    assert (told["lost"], told["ended with 300 tokens"], told["what was written before stayed"]) == (0, 24, True)
    assert 0 < told["interrupted"] < 24
