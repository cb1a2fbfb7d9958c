"""Ten thousand requests of the API, of all kinds and by eight clients at once: the server's memory stays as it is.

In int8. In float32 oneDNN keeps up to 1,024 kernels, one for each shape of a batch that there was, which takes some 300 MB
until it has them all.
"""

import http.client
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from browser import serving
from test_soak import resident, worker_of
from waiting import until

pytestmark = pytest.mark.soak

REQUESTS, CLIENTS, LOOKS = 10_000, 8, 20


def wish(dice: random.Random) -> dict:
    """A request of some kind, with a prompt that was not there before."""
    ids = [dice.randrange(1, 300) for _ in range(dice.randrange(1, 60))]
    kinds = (
        {"max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0},
        {"max_tokens": 0, "logprobs": 10, "echo": True, "return_token_ids": True},
        {"max_tokens": dice.randrange(1, 20), "n": dice.randrange(1, 5)},
        {"max_tokens": dice.randrange(1, 20), "stream": True, "logprobs": 10},
        {"max_tokens": 8, "n": 2, "best_of": 4, "prompt_logprobs": 3},
        {"max_tokens": 5, "temperature": "wrong"},
        {"max_tokens": 4000, "ignore_eos": True, "leave": True},
        {"max_tokens": 4000, "ignore_eos": True, "leave": True, "stream": True},
    )
    return {"model": "tiny", "prompt": [ids], "seed": dice.randrange(2**32), **dice.choice(kinds)}


def ask(port: int, seed: int) -> int:
    """One request; returns its status, 0 where the client left."""
    body = wish(random.Random(seed))
    leaves = body.pop("leave", False)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body))
        if leaves:
            return 0
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_memory_stays_flat_over_ten_thousand_requests(tmp_path, models):
    settings = {"RUBRIC_MODEL": "tiny", "RUBRIC_PREFIX_MEMORY": "8", "RUBRIC_PRECISION": "int8"}
    with serving(tmp_path, models, **settings) as server:
        sizes, seen = [], set()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for look in range(LOOKS):
                part = REQUESTS // LOOKS
                seeds = range(look * part, (look + 1) * part)
                seen |= set(clients.map(lambda seed: ask(server.port, seed), seeds))
                sizes.append(resident(worker_of(server)))
        print("\nRssAnon in kB after each part:", sizes)
        assert seen == {0, 200, 400}
        assert sizes[-1] < 1.05 * sizes[LOOKS // 2]
        until(lambda: server.ready(), what="a server that can write")
