"""`/metrics` tells Prometheus how the server is: all that happened, in few series, and no word of anybody's."""

import re
import secrets
from types import SimpleNamespace

import pytest
from conftest import Visitor, finished
from fake_engine import FakeEngine
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from generate import OTHERS, Outlook, Tallies
from webapp import create_app
from webapp.api.keys import add_key
from webapp.http.answers import Answers
from webapp.jobs.tables import JobState
from webapp.runs.registry import Streams
from webapp.watch.disk import Disk
from webapp.watch.gauges import Gauges
from webapp.watch.prometheus import written

HOME = {"Host": "127.0.0.1:8000"}
TEXT = "wistful hedgehogs of Szczecin"


def scraped(visitor, **headers) -> dict[tuple, float]:
    """Every series and its value, as Prometheus' own parser reads them."""
    answer = visitor.get("/metrics", headers=HOME | headers)
    assert answer.status_code == 200, answer.text
    return values(answer.text)


def values(text: str) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def grown(before: dict, after: dict, name: str, **labels) -> float:
    key = (name, *sorted(labels.items()))
    return after[key] - before.get(key, 0)


def beside_buckets(found: dict) -> list[tuple]:
    return [key for key in found if not key[0].endswith("_bucket")]


def test_what_happened_is_told(app, visitor):
    visitor.finish(visitor.start(max_new_tokens=3))
    before = scraped(visitor)
    visitor.finish(visitor.start(max_new_tokens=12, samples=2, prompt="the young fox"))
    assert visitor.post("/runs", data={"prompt": "x", "model": "tiny", "top_p": "7"}).status_code == 422
    visitor.get("/s/none")
    after = scraped(visitor)
    assert grown(before, after, "rubric_runs_total", model="tiny") == 1
    wrote = lambda: grown(before, scraped(visitor), "rubric_tokens_total", model="tiny", kind="written")  # noqa: E731
    until(lambda: wrote() == 24, 10, "the count of all tokens")
    assert grown(before, after, "rubric_samples_ended_total", reason="length") == 2
    assert grown(before, after, "rubric_first_token_seconds_count", model="tiny") == 1
    assert grown(before, after, "rubric_first_token_seconds_bucket", model="tiny", le="+Inf") == 1
    assert grown(before, after, "rubric_refusals_total", reason="request") == 1
    assert grown(before, after, "rubric_answers_total", status="4xx") == 2
    assert after[("rubric_ready",)] == after[("rubric_database_up",)] == 1
    assert after[("rubric_disk_free_bytes",)] > 0
    assert after[("rubric_database_bytes",)] > 10_000
    assert after[("process_resident_memory_bytes",)] > 10_000_000
    until(lambda: scraped(visitor)[("rubric_rows", ("model", "tiny"))] == 0, what="the end of all rows")


def makes_steps(app, writer) -> bool:
    """Whether the page's engine is the session's; of one behind an address no steps are told."""
    return app.extensions["rubric"].engine is writer.engine


def test_a_step_counts_once_however_many_rows_it_has(app, visitor, writer):
    before = scraped(visitor)
    finished(writer.submit("the old king", samples=8, max_new_tokens=30))
    if not makes_steps(app, writer):
        assert "rubric_step_seconds_count" not in {key[0] for key in scraped(visitor)}
        return
    wrote = lambda: grown(before, scraped(visitor), "rubric_tokens_total", model="tiny", kind="written")  # noqa: E731
    until(lambda: wrote() == 240, 10, "the count of all tokens")
    after = scraped(visitor)
    assert 0 < grown(before, after, "rubric_step_seconds_count", model="tiny") < 80
    assert grown(before, after, "rubric_tokens_total", model="tiny", kind="read") > 0


def test_histograms_are_cumulative_and_end_in_their_count(app, visitor, writer):
    visitor.finish(visitor.start(max_new_tokens=3))
    found = scraped(visitor)
    for name in ("rubric_first_token_seconds", *["rubric_step_seconds"] * makes_steps(app, writer)):
        buckets = [value for key, value in found.items() if key[0] == f"{name}_bucket" and ("model", "tiny") in key]
        assert len(buckets) > 5
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[(f"{name}_count", ("model", "tiny"))] > 0


def test_a_scrape_is_answered_when_all_places_of_the_api_are_taken(app, visitor):
    slots = app.extensions["rubric"].api.slots
    taken = 0
    try:
        while slots.take():
            taken += 1
        assert visitor.get("/v1/models", headers=HOME).status_code == 503
        assert scraped(visitor)[("rubric_ready",)] == 1
        assert not slots.take(), "a scrape gives back no place that it did not take"
    finally:
        for _ in range(taken):
            slots.give_back()
    assert taken > 0


def test_in_private_mode_a_scrape_needs_a_key_and_no_password(serve):
    closed = serve(RUBRIC_PASSWORD="open sesame")
    assert closed.visitor.get("/metrics", headers=HOME).status_code == 401
    with closed.app.app_context():
        key = add_key("watcher")
    assert ("rubric_ready",) in scraped(closed.visitor, Authorization=f"Bearer {key}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rubric.example"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Origin": "https://elsewhere.example"},
        {"Forwarded": "for=203.0.113.7", "Authorization": "Bearer rubric-guess"},
    ],
)
def test_whoever_is_elsewhere_needs_a_key(app, visitor, headers):
    answer = visitor.get("/metrics", headers=HOME | headers)
    assert (answer.status_code, "rubric_" in answer.text) == (401, False)
    with app.app_context():
        key = add_key(f"watcher-{secrets.token_hex(4)}")
    assert scraped(visitor, **headers | {"Authorization": f"Bearer {key}"})[("rubric_ready",)] == 1


def test_openmetrics_is_told_to_whoever_asks_for_it(app, visitor):
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = visitor.get("/metrics", headers=HOME | accept)
    assert answer.content_type.startswith("application/openmetrics-text")
    assert "rubric_runs" in {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert visitor.get("/metrics", headers=HOME).content_type.startswith("text/plain")


def test_nothing_of_a_text_a_link_or_an_address_is_told(app, visitor):
    visitor.client.environ_base["REMOTE_ADDR"] = "203.0.113.77"
    run = visitor.start(TEXT, max_new_tokens=3)
    said = visitor.finish(run)["samples"][0]["text"]
    visitor.get("/", query_string={"prompt": TEXT, "model": TEXT})
    visitor.get(f"/{TEXT}")
    visitor.client.open("/", method="HEDGEHOG")
    visitor.client.environ_base["REMOTE_ADDR"] = "127.0.0.1"
    told = visitor.get("/metrics", headers=HOME).text
    for secret in (*TEXT.split(), "203.0.113.77", run[3:], said.strip() or TEXT, "HEDGEHOG"):
        if len(secret) > 3:
            assert secret not in told


def test_there_are_at_most_a_hundred_series_however_many_models_there_are(app, visitor, tmp_path):
    assert len(beside_buckets(scraped(visitor))) <= 100
    tallies = Tallies()
    for number in range(50):
        tallies.of(f"model-{number}").step(0.1, number, 1)
    engine = SimpleNamespace(tallies=tallies.all(), rows={"model-49": 2}, outlook=Outlook(), ready=lambda: None)
    gauges = Gauges(engine, Streams(3), Streams(3), Answers(), Disk(tmp_path))
    body, _ = written(gauges.read(), lambda name: False, "", map(str, JobState))
    found = values(body.decode())
    assert 60 < len(beside_buckets(found)) <= 100
    assert found[("rubric_tokens_total", ("kind", "written"), ("model", "model-3"))] == 3
    assert found[("rubric_rows", ("model", OTHERS))] == 2
    others = found[("rubric_tokens_total", ("kind", "written"), ("model", OTHERS))]
    assert others == sum(range(50)) - sum(range(6)), "none is lost"
    assert len({dict(key[1:])["model"] for key in found if key[0] == "rubric_runs_total"}) == 7


def test_a_model_that_is_kept_from_visitors_is_counted_without_its_name(app, visitor):
    visitor.finish(visitor.start(max_new_tokens=3))
    choices = app.extensions["rubric"].choices
    before = scraped(visitor)
    choices.hide("tiny", True)
    try:
        after = scraped(visitor)
    finally:
        choices.hide("tiny", False)
    assert not any(("model", "tiny") in key for key in after)
    for name in ("rubric_runs_total", "rubric_first_token_seconds_count"):
        tiny, others = before[(name, ("model", "tiny"))], before.get((name, ("model", OTHERS)), 0)
        assert after[(name, ("model", OTHERS))] == tiny + others


def test_what_is_refused_for_want_of_room_is_counted_by_what_was_full(app):
    settings = app.config["SETTINGS"] | {"RUBRIC_RATE_LIMIT": "3 per hour", "RUBRIC_MAX_STREAMS": 1}
    engine = FakeEngine(max_rows=1, max_waiting=1, pace=1.0)
    own = create_app(settings, engine)
    visitor, streams = Visitor(own), own.extensions["rubric"].streams
    before = scraped(visitor)
    try:
        visitor.start(max_new_tokens=500)
        run = visitor.start(max_new_tokens=500)
        assert visitor.post("/runs", data={"prompt": "x", "model": "tiny"}).status_code == 503
        assert visitor.post("/runs", data={"prompt": "x", "model": "tiny"}).status_code == 429
        assert streams.take()
        assert "event: busy" in visitor.get(f"{run}/events").text
        after = scraped(visitor)
    finally:
        engine.close()
    for reason in ("line", "often", "streams"):
        assert grown(before, after, "rubric_refusals_total", reason=reason) == 1, reason
    assert after[("rubric_streams",)] == after[("rubric_streams_limit",)] == 1
    assert after[("rubric_line_runs",)] == 1


def test_a_server_without_an_engine_answers_too(app):
    assert scraped(Visitor(create_app(app.config["SETTINGS"])))[("rubric_ready",)] == 0


def test_every_series_is_named_in_the_document(app, visitor):
    from conftest import ROOT

    visitor.finish(visitor.start(max_new_tokens=3))
    document = (ROOT / "docs/deploy.md").read_text()
    families = {re.sub("_(total|bucket|count|sum)$", "", key[0]) for key in scraped(visitor)}
    assert {name for name in families if name.startswith("rubric_") and f"`{name}" not in document} == set()
