"""Between a page and its engine everything may fail: no run is lost, none is longer or shorter than it was asked for, and
what cannot be done is said."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx2
import pytest
from conftest import finished, started
from engines import ids_of, until, until_written
from remotes import Upstream, remote
from test_api import Asker, reference
from test_capabilities import serving

from generate import LocalEngine, ModelFolder, Refusal, Request, RunLog, Sampling
from generate.remote import engine as remote_engine
from generate.remote import replica
from generate.scheduling.window import windows

PROMPT = "the old king said"


@pytest.fixture(scope="module")
def computing(models):
    engine = LocalEngine(models, device="cpu", precision="float32", threads=1).start("tiny")
    with closing(started(engine)):
        yield engine


@pytest.fixture(scope="module")
def upstreams(models, computing, tmp_path_factory):
    """Two servers, over one engine."""
    servers = [Upstream(models, tmp_path_factory.mktemp(f"upstream{n}"), computing) for n in (0, 1)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def first(upstreams):
    return healed(upstreams[0])


@pytest.fixture
def second(upstreams):
    return healed(upstreams[1])


def healed(server):
    server.between.fault, server.between.poses_as = lambda number, body: None, None
    server.between.bodies, server.between.key = [], ""
    return server


def submit(engine, tiny, text=PROMPT, **options) -> RunLog:
    request = Request(tiny, Sampling(**({"seed": 5, "max_new_tokens": 30, "temperature": 1, "top_k": 0} | options)))
    return engine.submit(request, request.new_log(tiny.encode_prompt(text)))


@pytest.fixture
def told(computing, tiny):
    """What the engine itself writes, asked for without anybody in between."""
    return ids_of(finished(submit(computing, tiny)))


# Faults: each is given the parts of an answer


def streams(body) -> bool:
    """Whether a request is for a text to be written."""
    return bool(body.get("stream"))


def after(count, then):
    """A fault that hands on so many events, and does something else with the next."""

    def fault(parts):
        number = 0
        for part in parts:
            for event in part.split(b"\n\n")[:-1]:
                if number == count:
                    yield from then(event + b"\n\n")
                    return
                yield event + b"\n\n"
                number += 1

    return fault


def cut(_part):
    raise ConnectionError("a fault was asked for")
    yield


def edited(change):
    """Changes one event's choice."""

    def then(part):
        event = json.loads(part.decode().removeprefix("data: "))
        change(event["choices"][0])
        yield f"data: {json.dumps(event)}\n\n".encode()

    return then


def other_ids(choice):
    choice["token_ids"] = [299 - choice["token_ids"][0]]


def no_such_id(choice):
    choice["token_ids"] = [100_000]
    choice["logprobs"]["tokens"] = ["token_id:100000"]


def no_logprob(choice):
    choice["logprobs"]["token_logprobs"] = [0.7]


def few_alternatives(choice):
    choice["logprobs"]["top_logprobs"] = [dict(list(choice["logprobs"]["top_logprobs"][0].items())[:2])]


FAULTS = {
    "a cut": after(3, cut),
    "an end too early": after(3, lambda part: iter(())),
    "no [DONE], and no reason": after(2, lambda part: iter([b"data: [DONE]\n\n"])),
    "garbage": after(2, lambda part: iter([b"data: {{{\n\n", part])),
    "bytes": lambda parts: iter([bytes(range(256)) * 50]),
    "one endless line": lambda parts: iter([b"data: " + b"x" * 3_000_000]),
    "another form": after(2, lambda part: iter([b'data: {"choices": [7]}\n\n', part])),
    "an error in mid-stream": after(2, lambda part: iter([b'data: {"error": {"message": "no"}}\n\n', part])),
    "other ids than it tells of": after(1, edited(other_ids)),
    "ids that the model has not": after(1, edited(no_such_id)),
    "a probability above 1": after(1, edited(no_logprob)),
    "too few alternatives": after(1, edited(few_alternatives)),
    "500": 500,
    "502": 502,
    "429": 429,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_fails_is_gone_on_with_to_the_letter(models, first, tiny, told, fault):
    """It fails three times, and not as it is looked at; what came before stays, and nothing comes twice."""
    faulty = []

    def fail(_number, body):
        if streams(body) and len(faulty) < 3:
            faulty.append(body)
            return fault
        return None

    first.between.fault = fail
    with closing(started(remote(models, first))) as engine:
        run = finished(submit(engine, tiny))
    assert ids_of(run) == told
    assert (run.samples[0].finish_reason, run.samples[0].error, len(faulty)) == ("length", None, 3)
    assert run.restarts >= (fault != 429)


@pytest.mark.parametrize("status", [500, 429])
def test_where_one_always_fails_the_other_writes(models, first, second, tiny, told, status):
    first.between.fault = lambda number, body: status if streams(body) else None
    with closing(started(remote(models, first, second))) as engine:
        runs = [submit(engine, tiny) for _ in range(6)]
        assert [ids_of(finished(run)) for run in runs] == [told] * 6
    assert any(map(streams, second.between.bodies))


@pytest.mark.long
def test_where_all_always_fail_the_text_ends_with_why(models, first, tiny):
    begun = []

    def fail(_number, body):
        if not streams(body):  # it looks well
            return None
        begun.append(body)
        return after(2, cut) if len(begun) == 1 else 500

    first.between.fault = fail
    with closing(started(remote(models, first))) as engine:
        run = finished(submit(engine, tiny, max_new_tokens=50))
    assert 0 < len(run.samples[0]) < 50, "what was written is kept"
    assert run.samples[0].finish_reason == "error"
    assert "failed 6 times in a row: it answered with status 500" in str(run.samples[0].error)


def test_what_is_refused_is_not_asked_again(models, first, tiny):
    first.between.fault = lambda number, body: 400 if streams(body) else None
    with closing(started(remote(models, first))) as engine:
        first.between.bodies.clear()
        sample = finished(submit(engine, tiny)).samples[0]
    assert (sample.finish_reason, str(sample.error)) == ("error", "The engine refused this: a fault was asked for")
    assert sum(map(streams, first.between.bodies)) == 1


def test_stop_closes_the_request(models, first, computing, tiny):
    with closing(started(remote(models, first))) as engine:
        run = submit(engine, tiny, max_new_tokens=4096)
        until_written(run, 3)
        assert first.between.open == 1
        engine.cancel(run)
        assert finished(run).samples[0].finish_reason == "cancelled"
        until(lambda: first.between.open == 0, what="the end of the request")
        until(lambda: computing.outlook.writing == 0, what="the end of the run behind it")


@pytest.mark.long
def test_with_no_engine_left_a_run_waits_and_goes_on_by_itself(models, first, tiny, told):
    with closing(started(remote(models, first))) as engine:
        gone = threading.Event()

        def until_gone(part):
            gone.wait(30)
            return cut(part)

        first.between.fault = lambda number, body: after(4, until_gone) if streams(body) else None
        run = submit(engine, tiny)
        until_written(run, 4)
        first.between.fault = lambda number, body: 500
        gone.set()
        first.stop()
        try:
            until(lambda: engine.ready() is not None, what="the bad news")
            assert f"The engine at {first.url} cannot be asked now" in engine.ready()
            assert "tiny" in engine.loaded, "it may come back"
            until(lambda: run.state == "waiting", what="waiting")
            later = submit(engine, tiny)
            assert not run.done
        finally:
            healed(first).start()
        assert ids_of(finished(run)) == ids_of(finished(later)) == told
        assert engine.ready() is None
        assert run.restarts >= 1


def test_only_as_many_requests_are_open_as_rows_were_let_in(models, first, tiny):
    most = []

    def counted(parts):
        for part in parts:
            most.append(first.between.open)
            yield part

    first.between.fault = lambda number, body: counted if streams(body) else None
    with closing(started(remote(models, first, max_rows=3))) as engine:
        for run in [submit(engine, tiny, samples=4, max_new_tokens=40) for _ in range(4)]:
            assert [sample.finish_reason for sample in finished(run).samples] == ["length"] * 4
    assert max(most) == 3


def test_the_key_is_sent_and_a_wrong_one_is_named(models, first, tiny):
    first.between.key = "sk-good"
    with closing(remote(models, first, key="sk-bad")) as engine:
        until(lambda: "it refuses the key (RUBRIC_ENGINE_KEY)" in (engine.ready() or ""), what="the refusal")
    with closing(started(remote(models, first, key="sk-good"))) as engine:
        assert finished(submit(engine, tiny)).samples[0].finish_reason == "length"


def test_who_only_yields_gives_its_rows_to_others(models, first, tiny):
    with closing(started(remote(models, first, max_rows=2))) as engine:
        slow = Request(tiny, Sampling(seed=1, max_new_tokens=4096, samples=2), yields=True)
        suggestion = engine.submit(slow, slow.new_log(tiny.encode_prompt(PROMPT)))
        until_written(suggestion, 1)
        run = finished(submit(engine, tiny))
        assert {sample.finish_reason for sample in finished(suggestion).samples} == {"yielded"}
    assert run.samples[0].finish_reason == "length"


# Models that are not ours


def test_a_model_that_cuts_text_otherwise_is_not_used(models, first, tiny):
    first.between.poses_as = "vllm"
    first.between.fault = lambda number, body: padded if body["model"] == "tiny" else None
    with closing(remote(models, first)) as engine:
        until(lambda: "other" in engine.loaded and engine.why_not("tiny"), what="both verdicts")
        assert "tiny" not in engine.loaded
        assert str(engine.why_not("tiny")) == "it cuts text into other tokens than tiny does here"
        with pytest.raises(Refusal) as refused:
            submit(engine, tiny)
        assert str(refused.value) == (
            "This server's engine cannot be used for tiny: it cuts text into other tokens than tiny does here."
        )


def padded(parts):
    """Another first id; the answer's length stays."""
    data = b"".join(parts)
    begin = data.index(b'"prompt_token_ids":[') + len(b'"prompt_token_ids":[')
    end = data.index(b",", begin)
    yield data[:begin] + b"9".ljust(end - begin) + data[end:]


def test_another_rubric_with_other_weights_is_not_used(models, first, tiny):
    first.between.fault = lambda number, body: (
        lambda parts: iter([b"".join(parts).replace(tiny.fingerprint().encode(), b"0" * 64)])
    )
    with closing(remote(models, first)) as engine:
        until(lambda: engine.why_not("tiny") is not None, what="the verdict")
        assert str(engine.why_not("tiny")) == "its tiny has other weights"


def test_a_sampler_that_vllm_has_not_is_refused_by_its_name(models, first, tiny):
    first.between.poses_as = "vllm"
    with closing(started(remote(models, first))) as engine:
        for options, sentence in {
            "dry_multiplier": (0.8, "has no dry_multiplier; set it to 0"),
            "xtc_probability": (0.5, "has no xtc_probability; set it to 0"),
            "banned_phrases": (("king",), "has no banned_phrases; leave it empty"),
            "temperature": (3.0, "temperature may be 2 at the most"),
        }.items():
            with pytest.raises(Refusal, match=sentence[1]):
                submit(engine, tiny, **{options: sentence[0]})
        wanted = {"min_p": 0.05, "presence_penalty": 0.3, "repetition_penalty": 1.1, "logit_bias": ("5 = -2",)}
        assert finished(submit(engine, tiny, **wanted)).samples[0].finish_reason == "length"
        sent = next(body for body in reversed(first.between.bodies) if streams(body))
    assert {name: sent[name] for name in ("min_p", "presence_penalty", "repetition_penalty", "logit_bias")} == {
        "min_p": 0.05,
        "presence_penalty": 0.3,
        "repetition_penalty": 1.1,
        "logit_bias": {"5": -2.0},
    }


def test_of_vllm_a_text_is_asked_for_window_by_window_and_is_the_same(models, first, tiny, computing):
    """Greedy, past a window of 64 tokens three times. What it cannot hold is one token of a full window."""
    first.between.poses_as = "vllm"
    with closing(started(remote(models, first))) as engine:
        run = finished(submit(engine, tiny, temperature=0, max_new_tokens=150, n_keep=4))
    assert len(run.samples[0]) == 150
    asked = [(len(body["prompt"]), body["max_tokens"]) for body in first.between.bodies if streams(body)]
    assert all(prompt + most <= 64 for prompt, most in asked)
    assert all(body["prompt"][:4] == list(run.prompt_ids[:4]) for body in first.between.bodies if streams(body))
    here = finished(submit(computing, tiny, temperature=0, max_new_tokens=150, n_keep=4)).samples[0].read()
    there = run.samples[0].read()
    until_full = 64 - len(run.prompt_ids)
    assert there["id"][:until_full].tolist() == here["id"][:until_full].tolist()
    assert there["logprob"][:until_full] == pytest.approx(here["logprob"][:until_full], abs=1e-4)


def read(engine, tiny, ids):
    request = Request(tiny, Sampling(max_new_tokens=0))
    return finished(engine.submit(request, request.new_log(ids))).prompt


def unread(count: int) -> list[int]:
    """The tokens of a text for which vLLM has no room before the end of their window of 64, of which one is for what it
    writes: the last two of each that is full."""
    full = [(start, end) for start, _, end in windows(count, 64) if end - start > 63]
    return [place for start, end in full for place in range(start + 63, end)]


@pytest.mark.parametrize("poses_as", [None, "vllm"])
def test_a_long_text_is_read_as_this_machine_reads_it(models, first, tiny, computing, poses_as):
    """But for the last two of a window, which vLLM reads with the newest 62 tokens before them, for which it has room."""
    ids = tiny.encode_prompt("the old king said to the young fox that the sea was far away " * 20)
    here, wanted = read(computing, tiny, ids), {}
    first.between.poses_as = poses_as
    for place in unread(len(ids)) if poses_as else ():
        last = place + 1 if place + 1 not in unread(len(ids)) else place + 2  # both are read at once
        wanted[place] = read(computing, tiny, ids[last - 63 : last])[place - last]
    with closing(started(remote(models, first))) as engine:
        there = read(engine, tiny, ids)
    assert there["rank"][1:].all()
    for place in range(1, len(ids)):
        told = wanted.get(place, here[place])
        assert there[place]["logprob"] == pytest.approx(told["logprob"], abs=1e-4), place
    assert bool(wanted) == bool(poses_as)


# A file system that fails, and limits of the other side


def test_a_models_folder_that_cannot_be_listed_for_a_while_ends_no_watch(models, first, tiny, told, monkeypatch):
    monkeypatch.setattr(replica, "EVERY", 0.02)
    looks, real = [], remote_engine.list_models

    def hiccup(root):
        looks.append(root)
        raise OSError("stale file handle")

    with closing(started(remote(models, first))) as engine:
        monkeypatch.setattr(remote_engine, "list_models", hiccup)
        until(lambda: len(looks) > 2, what="looks that go on")
        assert engine.ready() is None, "it says nothing of the engine"
        assert ids_of(finished(submit(engine, tiny))) == told
        monkeypatch.setattr(remote_engine, "list_models", real)


@pytest.mark.parametrize("error", [OSError("stale file handle"), Refusal("It is not the file that it was.")])
def test_weights_that_cannot_be_read_end_their_run_and_no_other(models, first, tiny, told, monkeypatch, error):
    def unreadable(_folder):
        raise error

    with closing(started(remote(models, first))) as engine:
        with monkeypatch.context() as broken:
            broken.setattr(ModelFolder, "fingerprint", unreadable)
            sample = finished(submit(engine, tiny)).samples[0]
        assert sample.finish_reason == "error"
        assert str(error) in str(sample.error)
        assert ids_of(finished(submit(engine, tiny))) == told


def test_a_folder_that_lies_about_its_weights_is_the_only_one_that_is_not_used(models, first, tiny, monkeypatch):
    real = ModelFolder.fingerprint

    def claimed(folder):
        if folder.name == "tiny":
            raise Refusal("tiny is not what it claims.")
        return real(folder)

    monkeypatch.setattr(ModelFolder, "fingerprint", claimed)
    with closing(started(remote(models, first))) as engine:
        assert str(engine.why_not("tiny")) == "tiny is not what it claims."
        assert "other" in engine.loaded


def test_a_text_at_the_limit_is_gone_on_with_by_its_ids(models, first, tiny, computing, monkeypatch):
    """The prompt is as long as one may be there, and the answer is cut once."""
    text = f"{PROMPT} to the young fox that the sea was far away"
    assert len(text) > len(replica.TEST.encode())
    monkeypatch.setattr(first.app.extensions["rubric"].api, "most_bytes", len(text))
    cuts = []

    def once(_number, body):
        if streams(body) and not cuts:
            cuts.append(body)
            return after(3, cut)
        return None

    first.between.fault = once
    with closing(started(remote(models, first))) as engine:
        assert ids_of(finished(submit(engine, tiny, text))) == ids_of(finished(submit(computing, tiny, text)))
    assert cuts


def test_one_that_is_busy_is_not_gone_at_once(monkeypatch):
    """What was known of it stays, until it is busy again and again."""
    monkeypatch.setattr(replica, "EVERY", 0.001)
    monkeypatch.setattr(replica, "SOONEST", 0.001)
    told, problems = [(200, {"data": []}), (503, {}), (503, {}), (200, {"data": []})], []

    def answer(_request):
        status, body = told[min(len(problems), 3)]
        return httpx2.Response(status, json=body, headers={"Retry-After": "1"})

    one = replica.Replica.at("http://engine", "", 1)
    one.client = httpx2.AsyncClient(base_url="http://engine", transport=httpx2.MockTransport(answer))

    async def looks():
        seen = asyncio.Event()

        def changed():
            problems.append(one.problem and str(one.problem))
            if len(problems) == len(told):
                seen.set()

        watch = asyncio.create_task(one.watch(list, changed))
        await asyncio.wait_for(seen.wait(), 30)
        watch.cancel()

    with ThreadPoolExecutor(1) as thread:  # the browser of other tests leaves this one a loop that runs
        thread.submit(asyncio.run, looks()).result()
    assert problems[:4] == [None, None, "it has too much to do", None]


def test_a_rubric_that_does_not_tell_its_precision_is_asked_as_one_that_promises_less(models, first, tiny):
    """It has an engine behind an address itself, which need not say the same twice."""

    def silent(parts):
        return iter([part.replace(b'-float32"', b'"' + b" " * len("-float32")) for part in parts])

    first.between.fault = lambda number, body: silent
    with closing(started(remote(models, first))) as engine:
        assert not engine.capabilities.resumes_exactly
        assert engine.capabilities.beyond_window < 0
        run = finished(submit(engine, tiny))
    assert (run.samples[0].finish_reason, run.precision) == ("length", None)


def test_what_our_api_tells_in_front_of_vllm_is_exact_or_refused(models, first, tiny, tmp_path):
    first.between.poses_as = "vllm"
    ids = tiny.encode_prompt("the old king said to the young fox that the sea was far away " * 9)[:64]
    with closing(started(remote(models, first))) as engine, closing(serving(models, tmp_path, engine)) as server:
        asker = Asker(server.app)
        told = asker.choice(prompt=ids[:63], max_tokens=1, echo=True, logprobs=1)["logprobs"]["token_logprobs"]
        error = asker.error(prompt=ids, max_tokens=1, echo=True, logprobs=1)
    exact = reference(models, ids)
    assert told[1:63] == pytest.approx([float(exact[n - 1, ids[n]]) for n in range(1, 63)], abs=1e-4)
    assert error["param"] == "prompt"
