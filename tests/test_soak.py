"""Long loads and repeats, run by `make soak`: bounded, on this machine only."""

import gc
import json
import os
import random
import socket
from pathlib import Path

import pytest
from browser import Server, get, start_run
from conftest import Writer, finished, parse_events, pictured, started, text_of
from crowd import gather
from engines import until_written
from waiting import until

from generate import LocalEngine, find_model

pytestmark = pytest.mark.soak


def resident(pid: int) -> int:
    """Anonymous memory of a process, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def worker_of(server) -> int:
    return int(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()[0])


def test_memory_stays_flat_over_a_thousand_runs(tmp_path):
    server = Server(tmp_path, RUBRIC_PREFIX_MEMORY="8").start()  # full long before the end
    try:
        start, sizes = resident(worker_of(server)), []
        for number in range(1000):
            run = start_run(server, max_new_tokens="8", seed=str(number), samples=str(1 + number % 4))
            get(run + "/events")
            if number % 100 == 99:
                sizes.append(resident(worker_of(server)))
        print(f"\nRssAnon in kB at the start {start}, and after each hundred runs:", sizes)
        assert sizes[-1] < 1.05 * sizes[3]
    finally:
        server.stop()


def seconds_at_work(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stored(server, run: str) -> dict:
    return json.loads(get(server.url + run + ".json"))["samples"][0]


def told(stream: str) -> str:
    return "".join(text_of(event["data"]) for event in parse_events(stream) if "id" in event)


def crowd(server, forms: list[dict], viewers: int) -> dict:
    """Let a crowd watch, check what everybody was told, and print what it cost."""
    worker = worker_of(server)
    before = seconds_at_work(worker)
    seen = gather(server.port, forms, viewers)
    cores = (seconds_at_work(worker) - before) / seen["seconds"]
    samples = [stored(server, run) for run in seen["runs"]]
    for sample, streams in zip(samples, seen["streams"], strict=True):
        assert [told(stream) for stream in streams] == [pictured(sample["text"])] * viewers
        assert all(stream.endswith("event: done\ndata: over\n\n") for stream in streams)
    tokens = sum(len(sample["tokens"]) for sample in samples)
    events = sum(stream.count("\n\n") for streams in seen["streams"] for stream in streams)
    print(
        f"\n{len(forms)} runs with {viewers} viewers each, {seen['refused']} times told to come back: "
        f"{tokens / seen['seconds']:.0f} tokens/s, {events / seen['seconds']:.0f} events/s, {cores:.2f} cores for the "
        f"server and {seen['cpu'] / seen['seconds']:.2f} for the crowd; load {os.getloadavg()[0]:.1f}"
    )
    for page, times in seen["pages"].items():
        shown = [f"{percentile(times, share) * 1000:.0f}" for share in (0.5, 0.99, 1)]
        print(f"{page}: p50 {shown[0]}, p99 {shown[1]}, worst {shown[2]} ms of {len(times)}")
    return seen | {"texts": [sample["text"] for sample in samples], "samples": samples}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def wishes(count: int, tokens: int) -> list[dict]:
    """Forms for runs that are long enough: none of the first seeds ends its text early."""
    seeds = [39, 37, 35, 32, *range(100, 200)]
    return [{"prompt": "Once upon a time", "seed": str(seed), "max_new_tokens": str(tokens)} for seed in seeds[:count]]


@pytest.mark.parametrize(("precision", "tokens"), [("float32", 800), ("int8", 4096)])
def test_a_crowd_of_viewers_all_get_the_whole_text_and_pages_stay_quick(tmp_path, precision, tokens):
    """100 viewers of one run, then 50 runs with one viewer each. Server, engine and crowd share this machine's cores."""
    server = Server(tmp_path, RUBRIC_PRECISION=precision).start()
    try:
        alone = crowd(server, wishes(1, tokens), 1)
        one = crowd(server, wishes(1, tokens), 100)
        many = crowd(server, wishes(50, 400), 1)
        again = [crowd(server, [form], 1)["texts"][0] for form in wishes(3, 400)]
        assert one["texts"] == alone["texts"]
        assert many["texts"][:3] == again
        for seen in (one, many):
            for page, times in seen["pages"].items():
                assert percentile(times, 0.95) < 0.2, f"{page} was slow"
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()


def test_viewers_who_find_no_room_are_told_so_at_once_and_get_the_whole_text_when_they_come_back(tmp_path):
    server = Server(tmp_path, RUBRIC_MAX_STREAMS="60", RUBRIC_PRECISION="int8").start()
    try:
        crowd(server, wishes(1, 100), 1)
        seen = crowd(server, wishes(1, 3000), 120)
        assert seen["refused"] >= 60
        for page, times in seen["pages"].items():
            assert percentile(times, 0.95) < 0.2, f"{page} was slow"
    finally:
        server.stop()


def test_three_hundred_half_requests_are_given_up_in_time(tmp_path):
    server = Server(tmp_path).start()
    try:
        half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
        for connection in half:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert get(server.url + "/healthz")  # waits 60 s at most; gunicorn alone would not answer while they are open
        for connection in half:
            connection.close()
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()


def test_memory_stays_flat_over_ten_thousand_short_requests(models):
    """The engine alone, in each precision; what is remembered of texts is bounded, and full long before."""
    for precision in ("float32", "int8"):
        engine = started(LocalEngine(models, device="cpu", precision=precision, prefix_memory=8).start("storyteller"))
        writer, dice, sizes = Writer(engine), random.Random(5), []
        try:
            for number in range(10_000 // 16):
                runs = [
                    writer.submit(
                        "the king " * dice.randint(1, 9), "storyteller", max_new_tokens=3, seed=number * 16 + n
                    )
                    for n in range(16)
                ]
                for run in runs:
                    finished(run)
                if number % 62 == 61:
                    sizes.append(resident(os.getpid()))
            print(precision, "RssAnon in kB after each thousand requests:", sizes)
            assert sizes[-1] < 1.03 * sizes[3]
        finally:
            engine.close()


def test_a_thousand_runs_cancelled_at_random_moments_leave_no_row_behind(writer, models):
    engine = started(LocalEngine(models, device="cpu", precision="int8").start("storyteller"))
    try:
        for where, model in ((writer, "tiny"), (Writer(engine), "storyteller")):
            cancel_at_random(where, model)
            batch = where.batch(model)  # a run is told to be over a moment before its place is cleared
            until(lambda batch=batch: not batch.busy and not batch.prefills, 10, "rest")
            assert batch.cache.slots == []
        assert not any("kv" in vars(bucket) for bucket in writer.batch().cache.buckets.values())
        batch.prefix_cache.drop()
        gc.collect()
        assert not batch.cache.pool.users.any(), "pages were not given back"
    finally:
        engine.close()


def cancel_at_random(writer, model):
    dice = random.Random(0)
    for _ in range(50):
        runs = [
            writer.submit(model=model, max_new_tokens=4096, samples=dice.randint(1, 4), seed=dice.randrange(99))
            for _ in range(20)
        ]
        for run in runs:
            until_written(run, dice.randrange(4))
            writer.engine.cancel(run)
        for run in runs:
            finished(run)


def test_two_hundred_random_runs_repeat_alone_in_a_crowd_remembered_and_resumed(writer, models):
    """float32; at 0.015 flips in 12,800 tokens a false alarm is rare, and the seeds are fixed."""
    dice = random.Random(1)
    wishes = [
        {"seed": dice.randrange(2**32), "top_k": dice.choice([0, 0, 40, 200]), "top_p": dice.choice([1, 0.9]), "max_new_tokens": 64}
        for _ in range(200)
    ]  # fmt: skip
    prompt = find_model(models, "storyteller").encode_prompt("The king")
    alone = [writer.ids("The king", "storyteller", **wish)[0] for wish in wishes]
    crowd, resumed = [], []
    for start in range(0, 200, 50):
        runs = [writer.submit("The king", "storyteller", **wish) for wish in wishes[start : start + 50]]
        crowd += [finished(run).samples[0].read()["id"].tolist() for run in runs]
    assert crowd == alone
    for wish, ids in zip(wishes, alone, strict=True):
        cut = dice.randint(1, len(ids))
        rest = wish | {"max_new_tokens": 64 - cut}
        resumed.append(
            ids[:cut] + writer.ids(ids=prompt + ids[:cut], model="storyteller", **rest)[0] if cut < 64 else ids
        )
    finished_early = [ids for ids in alone if len(ids) < 64]
    print(f"{len(finished_early)} of the runs ended by themselves")
    assert [r[: len(a)] for r, a in zip(resumed, alone, strict=True)] == alone
    engine = started(LocalEngine(models, device="cpu", precision="float32", prefix_memory=0).start("storyteller"))
    try:
        forgetful = Writer(engine)
        assert [forgetful.ids("The king", "storyteller", **wish)[0] for wish in wishes] == alone
    finally:
        engine.close()
