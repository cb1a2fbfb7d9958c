"""One of two engines behind a page is killed in the middle of its runs, as when a machine's power goes."""

import time
from collections.abc import Callable

from conftest import finished
from engines import ids_of, until, until_written

from generate import ModelFolder, RemoteEngine, Request, Sampling


def killed_in_the_middle(
    engine: RemoteEngine, folder: ModelFolder, kill: Callable[[], None], runs: int, tokens: int, after: int
) -> tuple[list[list[int]], dict]:
    """Wait until all replicas are there, write some runs, each to its full length, and call `kill` once all have `after` tokens.

    Returns what they say, and what came of it: how many were interrupted, lost and whole, whether what had been written by
    then stayed, and how long the rest took.
    """
    until(lambda: all(one.problem is None for one in engine._pool._replicas), 600, engine.ready)
    sampling = [Sampling(seed=n, temperature=1, max_new_tokens=tokens, min_new_tokens=tokens) for n in range(runs)]
    requests = [Request(folder, one, owner=f"{number}") for number, one in enumerate(sampling)]
    logs = [engine.submit(one, one.new_log(folder.encode_prompt("the old king said"))) for one in requests]
    for log in logs:
        until_written(log, after)
    before = [ids_of(log)[0] for log in logs]
    kill()
    begun = time.monotonic()
    said = [ids_of(finished(log, 600))[0] for log in logs]
    return said, {
        "runs": runs,
        "interrupted": sum(log.restarts > 0 for log in logs),
        "lost": sum(log.samples[0].finish_reason != "length" for log in logs),
        f"ended with {tokens} tokens": sum(len(ids) == tokens for ids in said),
        "what was written before stayed": all(ids[: len(old)] == old for ids, old in zip(said, before, strict=True)),
        "seconds from the kill to the last end": round(time.monotonic() - begun, 1),
    }
