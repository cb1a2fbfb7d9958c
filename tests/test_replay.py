"""A finished run, run again: the same to the last token, or the first that differs is named, with why."""

import json
import re
import shutil
from contextlib import closing

import numpy as np
import pytest
from conftest import TRICKY, make_model
from fake_engine import FakeEngine
from waiting import until

from generate import Problem, RunLog, Vocabulary, check_folder, unknown_records
from webapp.runs import replays
from webapp.runs.replays import Written, first_difference
from webapp.views.replay import judge, quoted, reasons

HTMX = {"HX-Request": "true"}


def verdict_of(asker, run: str) -> str:
    """Replay a run without scripts, as often loading the page again as it takes."""
    answer = asker.post(f"{run}/replay")
    assert answer.status_code == 303, answer.text
    page = answer.headers["Location"]
    said = until(lambda: re.search(r'<p class="verdict">(.*?)</p>', asker.get(page).text), what="a verdict")
    return said[1].replace("&#39;", "'")


def test_a_run_is_identical_whoever_replays_it(visitor, friend):
    run = visitor.start(TRICKY, max_new_tokens=50, temperature=1.5, top_k=0)
    visitor.finish(run)
    assert verdict_of(visitor, run) == "Identical: 50 tokens."
    assert verdict_of(friend, run) == "Identical: 50 tokens."


@pytest.mark.long
def test_made_alone_and_replayed_in_a_crowd_and_the_other_way_round(visitor, friend):
    options = {"model": "slow", "max_new_tokens": 30, "temperature": 1.3, "top_k": 0}
    alone = visitor.start("Once upon a time", **options)
    visitor.finish(alone)
    crowd = [friend.start(f"{n} times the old fox", seed=n, **options | {"max_new_tokens": 4096}) for n in range(4)]
    among = visitor.start("the old king", samples=3, **options)
    visitor.finish(among)
    assert verdict_of(visitor, alone) == "Identical: 30 tokens."
    assert all(friend.json(run)["state"] == "writing" for run in crowd)
    for run in crowd:
        friend.post(f"{run}/stop")
        friend.events(run)
    assert verdict_of(visitor, among) == "Identical: 90 tokens in 3 samples."


def test_one_token_is_one_token(visitor):
    run = visitor.start(max_new_tokens=1)
    visitor.finish(run)
    assert verdict_of(visitor, run) == "Identical: 1 token."


def test_a_run_that_was_stopped_is_compared_as_far_as_it_went(visitor):
    run = visitor.start(model="slow", max_new_tokens=4096, samples=2)
    until(lambda: all(len(sample["tokens"]) > 2 for sample in visitor.get(f"{run}.json").json["samples"]))
    visitor.post(f"{run}/stop")
    counts = [len(sample["tokens"]) for sample in visitor.finish(run)["samples"]]
    assert verdict_of(visitor, run) == f"Identical: {sum(counts)} tokens in 2 samples."


def test_a_run_past_the_window_and_one_that_met_a_stop_string_are_identical(visitor):
    long = visitor.start(max_new_tokens=150, top_k=0)
    text = visitor.finish(long)["samples"][0]["text"]
    assert verdict_of(visitor, long) == "Identical: 150 tokens."
    stopped = visitor.start(max_new_tokens=150, top_k=0, stop=re.search("[a-z]{2}", text[30:])[0])
    made = visitor.finish(stopped)["samples"][0]
    assert made["finish_reason"] == "stop"
    assert verdict_of(visitor, stopped) == f"Identical: {len(made['tokens'])} tokens."


def test_a_continuation_of_a_sample_is_identical(visitor):
    root = visitor.start(samples=3, max_new_tokens=10)
    visitor.finish(root)
    child = visitor.post(f"{root}/continue", data={"sample": 2}).headers["Location"]
    visitor.finish(child)
    assert verdict_of(visitor, child) == "Identical: 10 tokens."


@pytest.fixture
def changing(models):
    """A model that a test may replace; returns what does it."""
    folder = models / "changing"
    shutil.copytree(models / "tiny", folder)

    def replace(by):
        shutil.rmtree(folder)
        if by is not None:
            shutil.copytree(by, folder)

    yield replace
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.needs("loads_models")
def test_another_model_of_the_same_name_differs_from_a_token_on_and_is_told_by_its_weights(
    visitor, friend, models, changing
):
    run = visitor.start("the old king", model="changing", max_new_tokens=40, samples=2, top_k=0)
    then = visitor.finish(run)
    assert verdict_of(visitor, run) == "Identical: 80 tokens in 2 samples."
    changing(models / "other")
    other = friend.start("the old king", model="changing", max_new_tokens=40, samples=2, top_k=0)
    now = friend.finish(other)
    said = verdict_of(friend, run)
    place, sample = map(int, re.match(r"The (\d+)\w\w token of sample (\d) differs: ", said).groups())
    before, after = (made["samples"][sample - 1]["tokens"] for made in (then, now))
    same = [a["id"] == b["id"] for a, b in zip(before, after, strict=True)]
    assert same.index(False) == place - 1
    assert then["fingerprint"] != now["fingerprint"]
    assert f"The weights are others now ({now['fingerprint'][:12]}; then {then['fingerprint'][:12]})." in said


@pytest.mark.needs("loads_models")
def test_what_the_earlier_weights_of_a_model_wrote_is_read_and_its_replay_says_so(visitor, models, changing):
    run = visitor.start("the old king", model="changing", max_new_tokens=40, top_k=0)
    then = visitor.finish(run)
    changing(models / "other")
    (models / "changing" / "rubric.json").write_text(json.dumps({"earlier": [then["fingerprint"]]}))
    now = check_folder(models / "changing").fingerprint()
    said = verdict_of(visitor, run)
    weights = "It was written by the earlier changing ({}); the weights are others now ({})."
    assert weights.format(then["fingerprint"][:12], now[:12]) in said
    assert visitor.json(run)["samples"] == then["samples"]
    assert visitor.json(run) == then


@pytest.mark.needs("loads_models")
def test_a_model_with_other_tokens_or_none_at_all_is_a_sentence(visitor, changing, tmp_path):
    run = visitor.start(model="changing", max_new_tokens=3)
    visitor.finish(run)
    changing(make_model(tmp_path / "wider", vocab_size=310))
    answer = visitor.post(f"{run}/replay", headers=HTMX)
    assert answer.status_code == 422
    assert "other tokens now" in answer.text
    changing(None)
    answer = visitor.post(f"{run}/replay")
    assert answer.status_code == 422
    assert "There is no model called" in answer.text


def test_only_a_finished_run_is_replayed(visitor):
    run = visitor.start(model="slow", max_new_tokens=4096)
    answer = visitor.post(f"{run}/replay")
    visitor.post(f"{run}/stop")
    assert answer.status_code == 422
    assert "still being written" in answer.text
    assert visitor.post("/r/nosuchrun/replay").status_code == 404


def test_a_replay_is_stored_nowhere(app, visitor):
    from sqlalchemy import func, select

    from webapp.runs.tables import Block, Run, db

    def rows() -> list[int]:
        with app.app_context():
            return [db.session.scalar(select(func.count()).select_from(table)) for table in (Run, Block)]

    run = visitor.start(max_new_tokens=5)
    visitor.finish(run)
    until(lambda: run[3:] not in app.extensions["rubric"].registry.entries())
    before = rows()
    verdict_of(visitor, run)
    assert rows() == before


def test_by_htmx_a_fragment_asks_until_the_verdict_takes_its_place(visitor):
    run = visitor.start(model="slow", max_new_tokens=40)
    visitor.finish(run)
    begun = visitor.post(f"{run}/replay", headers=HTMX)
    assert "<html" not in begun.text
    assert "<title" not in begun.text
    assert 'hx-trigger="every 500ms"' in begun.text
    address = re.search(r'hx-get="(.*?)"', begun.text)[1]
    assert address in visitor.post(f"{run}/replay", headers=HTMX).text, "a second click starts no other"
    progress = visitor.get(address, headers=HTMX)
    assert "HX-Retarget" not in progress.headers
    assert re.fullmatch(r"(waiting in line.*|reading the prompt|\d+ of 40 tokens)", progress.text)
    until(lambda: "HX-Retarget" in visitor.get(address, headers=HTMX).headers)
    verdict = visitor.get(address, headers=HTMX)
    assert verdict.headers["HX-Retarget"] == "#replay"
    assert '<p class="verdict">Identical: 40 tokens.</p>' in verdict.text
    assert "hx-get" not in verdict.text
    again = visitor.post(f"{run}/replay", headers=HTMX)
    assert address not in again.text, "after a verdict a click runs it again"


@pytest.fixture
def replayed(monkeypatch) -> list:
    """The logs of all replays, kept when they are let go."""
    logs, add = [], replays.Replays.add

    def keep(self, replay):
        logs.append(replay.log)
        return add(self, replay)

    monkeypatch.setattr(replays.Replays, "add", keep)
    return logs


@pytest.mark.long
def test_a_replay_that_nobody_asks_for_is_given_up(visitor, monkeypatch, replayed):
    run = visitor.start(samples=4, max_new_tokens=1500)
    counts = [len(sample["tokens"]) for sample in visitor.finish(run)["samples"]]
    monkeypatch.setattr(replays, "PATIENCE", 0)
    page = visitor.post(f"{run}/replay").headers["Location"]
    log = replayed[-1]
    until(lambda: log.done)
    assert "cancelled" in [sample.finish_reason for sample in log.samples]
    assert sum(map(len, log.samples)) < sum(counts)
    assert "Nobody asked for this replay any more" in visitor.get(page).text


@pytest.mark.needs("loads_models")
def test_a_difference_ends_the_writing_at_once(visitor, models, changing, replayed):
    run = visitor.start("the old king", model="changing", max_new_tokens=1500, top_k=0)
    visitor.finish(run)
    changing(models / "other")
    visitor.post(f"{run}/replay")
    log = replayed[-1]
    until(lambda: log.done)
    assert len(log.samples[0]) < 1500


def test_verdicts_are_forgotten_after_a_while_and_when_there_are_too_many(visitor, monkeypatch):
    run = visitor.start(max_new_tokens=2)
    visitor.finish(run)
    first = visitor.post(f"{run}/replay").headers["Location"]
    until(lambda: "verdict" in visitor.get(first).text)
    second = visitor.post(f"{run}/replay").headers["Location"]
    until(lambda: "verdict" in visitor.get(second).text)
    with monkeypatch.context() as patch:
        patch.setattr(replays, "KEPT", 0)
        assert visitor.get(first).status_code == 404
    third = visitor.post(f"{run}/replay").headers["Location"]
    until(lambda: "verdict" in visitor.get(third).text)
    assert "no longer known" in visitor.get(second).text, "all old ones went at once"
    monkeypatch.setattr(replays, "MOST", 1)
    verdict_of(visitor, run)
    assert visitor.get(third).status_code == 404


def test_too_many_unfinished_ones_and_a_full_line_are_busy_for_a_moment(visitor, monkeypatch, writer):
    run = visitor.start(max_new_tokens=2)
    visitor.finish(run)
    with monkeypatch.context() as patch:
        patch.setattr(writer.engine, "max_waiting", 0)
        answer = visitor.post(f"{run}/replay", headers=HTMX)
    assert answer.status_code == 503
    assert "The line is full" in answer.text
    with monkeypatch.context() as patch:
        patch.setattr(replays, "MOST", 0)
        patch.setattr(replays, "KEPT", 0)
        assert visitor.post(f"{run}/replay").status_code == 503


def test_a_replay_of_a_run_that_was_deleted_tells_nothing_of_it(visitor):
    run = visitor.start("secret", max_new_tokens=2)
    visitor.finish(run)
    page = visitor.post(f"{run}/replay").headers["Location"]
    visitor.post(f"{run}/delete")
    assert visitor.get(page).status_code == 410
    answer = visitor.get(page, headers=HTMX)
    assert answer.headers["HX-Retarget"] == "#replay", "so that the page asks no more"
    assert "no longer known" in answer.text


def test_keys_of_other_runs_and_of_none_lead_nowhere(visitor):
    run, other = (visitor.start(max_new_tokens=2) for _ in range(2))
    visitor.finish(run)
    key = visitor.post(f"{run}/replay").headers["Location"].rsplit("/", 1)[1]
    visitor.finish(other)
    assert visitor.get(f"{other}/replay/{key}").status_code == 404
    assert visitor.get(f"{run}/replay/nothing").status_code == 404


# The verdict, of made-up runs

WORDS = Vocabulary([b"", b"fox", b" cat", b"\xe4\xbb", b"\n", b"<b>"])


def ids(*given) -> np.ndarray:
    return np.array(given, np.uint16)


def written(*samples, ended="length", precision="float32", device="cpu", fingerprint="f" * 64, earlier=None) -> Written:
    return Written(list(samples), [ended] * len(samples), WORDS, fingerprint, precision, device, earlier)


def written_again(*samples, error=None, reason="length", **known) -> RunLog:
    log = RunLog(unknown_records((1,), len(WORDS)), len(samples))
    log.fingerprint, log.precision, log.device = "f" * 64, "float32", "cpu"
    for name, value in known.items():
        setattr(log, name, value)
    for sample, given in zip(log.samples, samples, strict=True):
        records = np.zeros(len(given), log.prompt.dtype)
        records["id"] = given
        sample.append(records, len(given))
        log.finish(sample, reason, 0, error)
    return log


def test_a_replay_that_cannot_be_judged_does_not_keep_the_others_waiting():
    def judge(then, _again):
        return 1 / 0 if then is broken else "Identical."

    broken, whole = written(ids(1)), written(ids(1))
    kept = replays.Replays(judge, None)
    keys = [kept.add(replays.Replay("run", "ada", then, written_again(ids(1)))) for then in (broken, whole)]
    kept.tend_all()
    assert [kept.find("run", key).verdict for key in keys] == [
        "This replay failed; the server's log says why.",
        "Identical.",
    ]


def test_the_first_difference_is_the_earliest_of_all_samples():
    then = written(ids(1, 2, 1), ids(1, 2, 2))
    assert first_difference(then, [(ids(1, 2, 1), "length"), (ids(1, 2, 2), "length")]) is None
    assert first_difference(then, [(ids(1, 2, 2), "length"), (ids(1, 1, 2), "length")]) == (1, 1)
    assert first_difference(then, [(ids(1), None), (ids(), None)]) is None, "there is more to come"


def test_a_text_that_ends_elsewhere_differs_there():
    assert first_difference(written(ids(1, 2)), [(ids(1), "stop")]) == (0, 1)
    assert first_difference(written(ids(1), ended="stop"), [(ids(1, 2), None)]) == (0, 1)
    assert first_difference(written(ids(1), ended="cancelled"), [(ids(1, 2), None)]) is None, "it was only stopped"
    told = judge(written(ids(1, 2)), written_again(ids(1), reason="stop"))
    assert told.startswith("The 2nd token differs: here it said “ cat”, now the text ends there.")
    told = judge(written(ids(1), ended="stop"), written_again(ids(1, 5)))
    assert told.startswith("The 2nd token differs: here the text ended, now it goes on with “<b>”.")


@pytest.mark.parametrize(
    ("index", "name"), [(0, "the end marker"), (1, "“fox”"), (2, "“ cat”"), (3, "‹E4 BB›"), (4, "“↵”"), (5, "“<b>”")]
)
def test_a_token_is_named_so_that_it_can_be_seen(index, name):
    assert quoted(WORDS, index) == name


def test_why_is_told_as_far_as_it_is_known():
    then = written(ids(1))
    assert reasons(then, written_again(ids(2))) == "Why cannot be told."
    assert "written in float32, and now in int8" in reasons(then, written_again(ids(2), precision="int8"))
    assert "written on cpu, and now on cuda" in reasons(then, written_again(ids(2), device="cuda"))
    assert "The weights are others now (a" in reasons(then, written_again(ids(2), fingerprint="a" * 64))
    told = reasons(written(ids(1), earlier="tales"), written_again(ids(2), fingerprint="a" * 64))
    assert "written by the earlier tales (ffff" in told
    half = written(ids(1), precision="bfloat16")
    assert "rounding can turn a token" in reasons(half, written_again(ids(2), precision="bfloat16"))
    assert "rounding" not in reasons(half, written_again(ids(2), precision="bfloat16", fingerprint="a" * 64))


def test_a_replay_that_fails_is_no_difference():
    told = judge(written(ids(1, 2)), written_again(ids(1), reason="error", error=Problem("No {what}.", what="memory")))
    assert told == "It could not be written again to its end: No memory."


def test_a_replay_that_is_over_is_judged_and_not_stopped(monkeypatch):
    log = written_again(ids(1, 2))
    replay = replays.Replay("r", "o", written(ids(1, 2)), log)
    with closing(FakeEngine()) as engine:
        monkeypatch.setattr(engine, "cancel", lambda log: pytest.fail("it is over"))
        replays.tend(replay, engine, judge)
    assert replay.verdict == "Identical: 2 tokens."
    assert replay.log is None
