"""Every field of every address gets values that nobody should send: a 4xx with a page of the site, or an answer; never a 500."""

import json
import secrets
import shutil
from urllib.parse import quote

import pytest
from workshops import enter

from generate import LISTS
from generate import OPTIONS as NUMBERS
from webapp.jobs.tables import Job
from webapp.runs.tables import db

RAW = (  # as they stand in an address or a form, percent-encoded
    "",
    "%00",
    "a%00b",
    "%1B",
    "-1",
    "-5",
    "1" + "0" * 22,
    "9" * 5000,
    "NaN",
    "1e400",
    "0.5",
    "%FF",
    "%ED%A0%80",  # half a surrogate pair
    "%F0%9F%A6%8A",
    "%EF%BC%91",  # a digit of another script
    "%0D%0A",
    "..%2F..%2Fetc",
    "%7B%7B7*7%7D%7D",
    "x" * 3000,
)
OPTIONS = " ".join(option.name for option in NUMBERS + LISTS)
TEACH = "model makes minutes preset steps documents sample_prompt"
JSON = {  # the fields that each view reads of a JSON object
    "sheet.make": "key from edits options memory lens",
    "sheet.type_in": "key rev seen edits",
    "sheet.write": "key rev seen at options",
    "sheet.retry": "key rev seen options",
    "sheet.word": "key rev seen run sample place token options",
    "sheet.flip": "key rev seen to",
    "sheet.undo": "key rev seen",
    "sheet.redo": "key rev seen",
    "sheet.back": "key rev seen piece",
    "sheet.settle": "key options memory lens",
    "sheet.stop": "",
    "sheet.take": "key rev seen suggestion sample from to at",
    "suggestions.suggest": "rev at turn options",
    "api_page.sheet_code": "rev at options",
    "api_page.empty_code": "memory options",
    "api.completions": "model prompt max_tokens n stream seed echo logprobs stop logit_bias store stream_options",
    "api_tokens.tokenize": "model prompt add_special_tokens return_token_strs",
    "api_tokens.detokenize": "model tokens",
}
VALUES = (None, True, -1, 0.5, 10**30, float("nan"), "", "\0", "\ud800", "x" * 300, [], {}, [[]], [[0, 0, 0]], {"x": 1})
VALUES += ({"run": "\0"}, {"sheet": 7}, {"run": "x", "sample": {}}, {"model": "\0", "temperature": "NaN"})
FIELDS = {  # the fields that each view reads, of its address or its form
    "home.home": f"prompt model parent sample parent_sample {OPTIONS}",
    "home.create": f"prompt model parent parent_sample parse_special read nonce {OPTIONS}",
    "home.busy": "",
    "run.run_page": "",
    "run.retry": "nonce",
    "run.continue_run": "sample nonce",
    "run.fork": "sample place token nonce",
    "run.stop": "",
    "samples.pick": "sample nonce",
    "comparison.write_beside": "model nonce",
    "comparison.score": "model nonce",
    "comparison.side_by_side": "",
    "comparison.shift": "",
    "events.events": "after at bare prompt",
    "events.plain": "",
    "exports.text": "",
    "exports.everything": "",
    "exports.sheet_text": "",
    "exports.whole_sheet": "",
    "sharing.card": "",
    "sharing.code": "",
    "sharing.sheet_code": "",
    "sharing.share_run": "",
    "sharing.share_sheet": "",
    "sharing.embed": "",
    "token.token": "sample place",
    "model.model_page": "",
    "my_runs.runs": "q page",
    "my_runs.download": "",
    "my_runs.delete": "nonce",
    "home.sheet": "",
    "sheet.current": "",
    "sheet.older": "from",
    "sheet_events.events": "",
    "sheet.delete": "nonce",
    "model.samples": "",
    "model.write_samples": "nonce",
    "api.models": "",
    "api.model": "",
    "api.nothing": "",
    "api_tokens.not_by_this_method": "",
    "api_page.page": "",
    "api_page.description": "",
    "api_page.run_code": "",
    "api_tokens.tokenizer_info": "model",
    **dict.fromkeys(JSON, ""),
    "replay.begin": "nonce",
    "replay.show": "whole",
    "operator.enter": "key",
    "private.ask": "to",
    "private.enter": "to password",
    "crawlers.robots": "",
    "stored.stored": "",
    **dict.fromkeys(("report.run", "report.sheet"), ""),
    **dict.fromkeys(("report.report_run", "report.report_sheet"), "reason words nonce"),
    "moderation.written": "q which by page",
    "moderation.one": "",
    **{f"moderation.{name}": "nonce" for name in ("hide", "show", "delete", "put_aside")},
    "moderation.block": "days nonce",
    "moderation.blocked": "",
    "moderation.block_address": "address days nonce",
    "moderation.lift": "address nonce",
    "moderation.block_one_key": "name days nonce",
    "operator.go": "nonce",
    "workshop.jobs": "",
    "bring.page": "",
    "bring.bring": "upload makes path hub nonce",
    "bring.heads": "heads nonce",
    "bring.vocabulary": "whose model upload nonce",
    "keeping.models": "",
    "keeping.describe": "can cannot nonce",
    "keeping.rename": "makes nonce",
    **dict.fromkeys(("keeping.choose", "keeping.hide", "keeping.show", "keeping.delete"), "nonce"),
    **dict.fromkeys(("keeping.as_transformers", "keeping.as_tensorflow", "model.certificate"), ""),
    **dict.fromkeys(("uploads.abilities", "uploads.create", "uploads.ask", "uploads.piece", "uploads.remove"), ""),
    "workshop.job": "",
    "workshop.now": "",
    "teach.form": TEACH,
    "teach.teach": f"text nonce {TEACH}",
    "teach.change": "",
    "teach.teach_otherwise": f"nonce {TEACH}",
    "teach.beside": "nonce",
    "workshop.begin": "nonce",
    "workshop.stop": "nonce",
    "workshop.throw_away": "nonce",
    "health.healthz": "",
    "health.readyz": "",
    "metrics.metrics": "",
    "well.well": "",
    "npm": "v",
    "static": "v",
    "favicon": "",
    "language": "language",
}
HEADERS = (
    "Host",
    "Origin",
    "Referer",
    "Last-Event-ID",
    "Accept-Encoding",
    "If-None-Match",
    "If-Modified-Since",
    "Range",
)
HEADERS += ("Cookie", "Sec-Fetch-Site", "HX-Request", "X-Forwarded-Proto", "X-Forwarded-Host", "Content-Type")
FORM = {"prompt": "the+old+king", "model": "tiny", "max_new_tokens": "1", "sample": "0", "place": "0"}


@pytest.fixture
def visitor(app):
    """The operator, for whom there are more addresses than for others."""
    return enter(app)


@pytest.fixture
def spare(app, models):
    """A model that the operator may do anything to."""
    before = set(models.iterdir())
    shutil.copytree(models / "tiny", models / "spare")
    yield "spare"
    for path in set(models.iterdir()) - before:
        shutil.rmtree(path)
    app.extensions["rubric"].choices.rename(app.extensions["rubric"].choices.default or "spare", None)


def valid(visitor) -> dict:
    """What each part of an address is where nothing is wrong with it: makes a run, a replay of it, and a sheet.

    And a job of another machine, which nobody does.
    """
    run = visitor.start(max_new_tokens=2)
    visitor.finish(run)
    key = visitor.post(f"{run}/replay").headers["Location"].rsplit("/", 1)[1]
    sheet = visitor.post("/sheets", json={"key": "k" * 22}).get_json()["id"]
    file = {
        "name": "tiny",
        "package": "htmx",
        "file": "htmx.min.js",
        "path": "htmx.min.js",
        "filename": "rubric.css",
        "_path": "x",
        "kind": "run",
    }
    app = visitor.client.application
    with app.app_context():
        about = {"fields": {"model": "tiny"}, "files": ["none.txt"], "model": "tiny"}
        job = Job(id=secrets.token_hex(8), kind="finetune", title="", makes="", state="draft", machine="elsewhere")
        job.arguments, job.about = [], about
        db.session.add(job)
        db.session.commit()
        parts = {"job_id": job.id, "upload_id": "0" * 32}
    return {"run_id": run[3:], "first": run[3:], "second": run[3:], "key": key, "sheet_id": sheet} | file | parts


def build(rule, values) -> str:
    """An address of a rule, of raw values for its parts."""
    _, path = rule.build({name: f"@{name}@" for name in rule.arguments}, append_unknown=False)
    for name in rule.arguments:
        path = path.replace(quote(f"@{name}@", safe="@"), values[name]).replace(f"@{name}@", values[name])
    return path


def check(answer, what) -> None:
    assert answer.status_code < 500, (what, answer.text)
    assert "Traceback" not in answer.text


def test_the_table_names_every_view(app):
    assert set(FIELDS) == {rule.endpoint for rule in app.url_map.iter_rules()}


@pytest.mark.long
@pytest.mark.parametrize("endpoint", FIELDS)
def test_no_value_of_a_field_breaks_a_view(app, visitor, spare, endpoint):
    parts = valid(visitor) | ({"name": spare} if endpoint.startswith("keeping.") else {})
    for rule in app.url_map.iter_rules(endpoint):
        address = build(rule, parts)
        for name in FIELDS[endpoint].split():
            for value in RAW:
                for twice in (False, True):
                    fields = {**FORM, name: value} if "POST" in rule.methods else {name: value}
                    sent = "&".join(f"{key}={found}" for key, found in fields.items())
                    sent += f"&{name}=7" if twice else ""
                    if "POST" in rule.methods:
                        kind = "application/x-www-form-urlencoded"
                        answer = visitor.post(address, data=sent.encode(), content_type=kind)
                    else:
                        answer = visitor.get(f"{address}?{sent}")
                    check(answer, (address, name, value, twice))


@pytest.mark.long
@pytest.mark.parametrize("endpoint", FIELDS)
def test_no_part_of_an_address_breaks_a_view(app, visitor, endpoint):
    for rule in app.url_map.iter_rules(endpoint):
        parts = valid(visitor) if rule.arguments else {}
        for name in rule.arguments:
            for value in RAW:
                address = build(rule, parts | {name: value})
                for method in sorted(rule.methods - {"OPTIONS"}):
                    check(visitor.client.open(address, method=method, buffered=True), (method, address))


@pytest.mark.long
@pytest.mark.parametrize("endpoint", JSON)
def test_no_value_in_a_json_object_breaks_a_view(app, visitor, endpoint):
    given = {"key": "k" * 22, "rev": 0, "at": 0, "sample": 0, "place": 0, "run": "x", "to": 0, "piece": 0}
    sheet = visitor.post("/sheets", json={"key": "s" * 22}).get_json()["id"]
    (rule,) = app.url_map.iter_rules(endpoint)
    address = build(rule, {"sheet_id": sheet})
    for name in JSON[endpoint].split():
        for value in VALUES:
            check(send(visitor, address, json.dumps(given | {name: value})), (address, name, value))
    for body in (b"", b"{", b"[]", b"7", b"null", b"\xff", b'{"key": NaN}', b"[" * 5000):
        check(send(visitor, address, body), (address, body))


def send(visitor, address, body):
    return visitor.post(address, data=body, content_type="application/json")


@pytest.mark.long
@pytest.mark.parametrize("header", HEADERS)
def test_no_header_breaks_a_view(visitor, header):
    run = f"/r/{valid(visitor)['run_id']}"
    for value in (
        "",
        "\x00",
        "\x1b",
        "http://[x",
        "http://[::1",
        "-1",
        "9" * 5000,
        "bytes=-1-",
        "é",
        "*;q=x",
        "a=b=c;;",
        "[::1",
    ):
        headers = {header: value}
        for address in ("/", run, f"{run}/events", f"{run}.json", "/static/rubric.css", "/nowhere"):
            check(visitor.get(address, headers=headers), (address, header, value))
        check(visitor.post(f"{run}/retry", data={}, headers=headers), (run, header, value))


def test_a_prompt_whose_sample_is_none_of_its_run_s_is_refused_also_where_the_tokens_are_others(visitor):
    run = visitor.start("Once", model="storyteller", max_new_tokens=2)
    visitor.finish(run)
    for model in ("tiny", "storyteller"):
        for sample in ("1" + "0" * 22, "-5", "1", "x"):
            form = {"prompt": "Once", "model": model, "parent": run[3:], "parent_sample": sample}
            answer = visitor.post("/runs", data=form)
            assert answer.status_code == 422
            assert "parent_sample must be a whole number from 0 to 0" in answer.text
