"""A server holds: 200 viewers, 60 writers, a crawler and a restart in the middle, run by `make soak`.

SOAK_SECONDS makes it shorter than its ten minutes.
"""

import json
import os
import time

import pytest
from browser import Server, get
from conftest import parse_events, pictured, taken_in
from test_soak import percentile, resident, worker_of
from town import live, outcome
from waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SECONDS = int(os.environ.get("SOAK_SECONDS", "600"))
WRITERS, VIEWERS, TOKENS = 60, 200, 400
STARTS = 240  # seconds at the most: int8 may have to be compiled, and all of the town comes back at once
# Of a life, after which memory has grown to what it needs: on a machine at work by 126, 23, 18, 10, 6 and 3 MB in 50 s each.
SETTLES = 0.6


def told(pieces: list[str]) -> str:
    """The text that a page shows which has taken in all events, over as many connections as it took."""
    text = ""
    for piece in pieces:
        for event in parse_events(piece):
            text = taken_in(text, event)
    return text


def watch_over(server, seconds: float) -> list[int]:
    """Resident kB of the worker, every few seconds for so long."""
    sizes, worker, end = [], worker_of(server), time.monotonic() + seconds
    while time.monotonic() < end:
        sizes.append(resident(worker))
        due = min(end, time.monotonic() + max(1.0, SECONDS / 120))
        until(lambda due=due: time.monotonic() >= due, what="the next look")
    return sizes


def test_200_viewers_60_writers_a_crawler_and_a_restart(tmp_path):
    server = Server(tmp_path, RUBRIC_PREFIX_MEMORY="8", RUBRIC_PRECISION="int8")
    server.start(seconds=STARTS)
    try:
        file = tmp_path / "told"
        town = live(server.port, SECONDS, WRITERS, VIEWERS, TOKENS, file)
        lives = [watch_over(server, SECONDS / 2)]
        down = time.time()
        server.stop()
        server.start(seconds=STARTS)
        up = time.time()
        lives.append(watch_over(server, SECONDS / 2 - (up - down)))
        seen = outcome(town, 300)
        texts = [json.loads(line) for line in file.open()]
        stored = {run: json.loads(get(server.url + run + ".json"))["samples"][0] for run, begun, _ in texts if begun}
    finally:
        server.stop()
    asked = [found for at, *found in seen["alive"] if not down - 1 < at < up + 5]
    alive, late = zip(*asked, strict=True)
    print(
        f"\n{SECONDS} s, {up - down:.1f} of them down: {len(stored)} runs, "
        f"{sum(len(sample['tokens']) for sample in stored.values())} tokens, {seen['watched']} times watched, "
        f"{seen['refused']} times told to come back, {seen['down']} times without an answer"
    )
    print(
        f"/healthz: p50 {percentile(alive, 0.5) * 1000:.0f}, p99 {percentile(alive, 0.99) * 1000:.0f} ms, worst {max(alive) * 1000:.0f}; "
        f"asked {len(alive)} times, late themselves by p50 {percentile(late, 0.5) * 1000:.0f}, p99 {percentile(late, 0.99) * 1000:.0f} ms"
    )
    print("answers:", dict(seen["answers"]))
    print("RssAnon in kB:", *lives, sep="\n")
    assert seen["impolite"] == []
    assert len(stored) > WRITERS, "each wrote more than once"
    for run, sample in stored.items():
        assert sample["finish_reason"] in ("length", "stop"), (run, sample["finish_reason"], sample["error"])
    for run, _, pieces in texts:
        assert told(pieces) == pictured(stored[run]["text"]), run
    for sizes in lives:
        settled = sizes[int(len(sizes) * SETTLES) :]
        assert max(settled) < 1.05 * settled[0], sizes
    assert percentile(alive, 0.99) < 0.2 + percentile(late, 0.99)
    assert "Traceback" not in server.log.read_text()
