"""Requests that cannot be served: each gets a 4xx with one clear sentence, and the engine goes on serving."""

import re

import pytest

FORM = {"prompt": "Once", "model": "tiny", "max_new_tokens": "3", "seed": "1"}
NUMBERS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "samples", "seed")
JUNK = ("nan", "inf", "-1e999", "-1", "abc", "1e400", "0x10", "١٢٣٤٥٦٧٨٩٠", "99999999999999999999", "1;2", "None")

BAD_FORMS = [
    *[({name: value}, name) for name in NUMBERS for value in ("nan", "-7", "abc", "1e400", "9" * 400)],
    ({"temperature": "5.01"}, "temperature"),
    ({"top_p": "1.0001"}, "top_p"),
    ({"top_p": "-0.1"}, "top_p"),
    ({"repetition_penalty": "0"}, "repetition_penalty"),
    ({"max_new_tokens": "-1"}, "max_new_tokens"),
    ({"max_new_tokens": "2.5"}, "max_new_tokens"),
    ({"samples": "33"}, "samples"),
    ({"seed": str(2**32)}, "seed"),
    ({"model": "no-such-model"}, "no-such-model"),
    ({"model": "../../etc"}, "../../etc"),
    ({"stop": "\n".join("abcdefghij")}, "stop"),
    ({"stop": "x" * 300}, "stop"),
    ({"prompt": "x" * 20_001}, "prompt"),
    ({"prompt": "从" * 7_000}, "prompt"),
    ({"prompt": None}, "prompt"),
]


def sentence(answer) -> str:
    """The one sentence of an error page, a form with a complaint, or a fragment."""
    found = re.findall(r'role="alert">(.*?)</p>|<h1>[^<]*</h1>\s*<p>(.*?)</p>', answer.text, re.S)
    assert len(found) == 1, answer.text
    return "".join(found[0])


@pytest.mark.parametrize(("change", "named"), BAD_FORMS)
def test_a_bad_form_is_refused_with_a_sentence_that_names_the_field(visitor, change, named):
    fields = {k: v for k, v in (FORM | change).items() if v is not None}
    for headers in ({}, {"HX-Request": "true"}):
        answer = visitor.post("/runs", data=fields, headers=headers)
        assert answer.status_code == 422
        assert named in sentence(answer)
        assert "Traceback" not in answer.text


def test_a_refused_form_keeps_every_word(visitor):
    fields = FORM | {"prompt": "\n  my long <b>story</b>", "temperature": "hot", "stop": "a\\nb", "top_k": "7"}
    page = visitor.post("/runs", data=fields).text
    assert ">\n\n  my long &lt;b&gt;story&lt;/b&gt;</textarea>" in page
    assert 'name="temperature" value="hot"' in page
    assert 'name="top_k" value="7"' in page
    assert ">\na\\nb</textarea>" in page
    assert '<details class="settings" open>' in page


def test_htmx_gets_a_fragment_that_leaves_the_page_as_it_is(visitor):
    answer = visitor.post("/runs", data=FORM | {"top_p": "2"}, headers={"HX-Request": "true"})
    assert answer.text.startswith('<p class="said" role="alert">')
    assert answer.headers["HX-Retarget"] == "#problem"
    assert answer.headers["HX-Push-Url"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/runs", 405),
        ("DELETE", "/", 405),
        ("POST", "/", 405),
        ("GET", "/no-such-page", 404),
        ("GET", "/r/", 404),
        ("GET", "/r/unknown", 404),
        ("GET", "/r/unknown.txt", 404),
        ("GET", "/r/unknown.json", 404),
        ("GET", "/r/unknown/plain", 404),
        ("GET", "/r/" + "x" * 5000, 404),
        ("GET", "/r/%00", 404),
        ("GET", "/r/%F0%28%8C%28", 404),
        ("GET", "/r/..%2f..%2fetc", 404),
        ("GET", "/?parent=unknown", 404),
        ("POST", "/r/unknown/stop", 404),
        ("POST", "/r/unknown/continue", 404),
        ("POST", "/r/unknown/retry", 404),
        ("GET", "/r/unknown/stop", 405),
        ("POST", "/r/unknown/events", 405),
        ("GET", "/static/npm/htmx/../../../../etc/passwd", 404),
        ("GET", "/static/npm/other/x.js", 404),
        ("GET", "/static/../wsgi.py", 404),
    ],
)
def test_a_bad_address_or_method_gets_a_page_of_the_site(visitor, method, path, status):
    answer = visitor.client.open(path, method=method)
    assert answer.status_code == status
    assert len(sentence(answer)) > 20
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize("sample", ["-1", "1", "99999", "x", "", "0.5", "²"])
def test_a_bad_sample_number_is_refused(visitor, sample):
    run = visitor.start(max_new_tokens=3)
    visitor.finish(run)
    answer = visitor.post(f"{run}/continue", data={"sample": sample})
    assert answer.status_code == 422
    assert "sample must be" in sentence(answer)


@pytest.mark.parametrize("cursor", ["x", "-1", "1.2", "1e3", "1.", ".1", "9" * 100, "１"])
def test_a_bad_cursor_is_refused(visitor, cursor):
    run = visitor.start(max_new_tokens=3)
    answer = visitor.get(f"{run}/events", query_string={"after": cursor})
    assert answer.status_code == 400
    assert "whole numbers" in sentence(answer)


def test_a_body_too_large_is_refused_with_413(visitor):
    answer = visitor.post("/runs", data={"prompt": "x" * 3_000_000})
    assert answer.status_code == 413
    assert "more text" in sentence(answer)


@pytest.mark.parametrize("filler", ["\r\n", "\0", "从", "x", "&"])
def test_a_prompt_of_the_longest_length_is_taken_whatever_is_in_it(visitor, filler):
    size = len(filler.replace("\r\n", "\n").encode())
    prompt = filler * (20_000 // size)
    answer = visitor.post("/runs", data=FORM | {"prompt": prompt})
    assert answer.status_code == 303
    assert visitor.finish(answer.headers["Location"])["prompt"]["text"] == prompt.replace("\r\n", "\n")
    assert visitor.post("/runs", data=FORM | {"prompt": prompt + filler * 3}).status_code == 422


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe\x00", "application/x-www-form-urlencoded"),
        (b'{"prompt": "x"}', "application/json"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"prompt=x", "text/plain"),
        (b"", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_is_no_form_is_refused(visitor, body, kind):
    answer = visitor.post("/runs", data=body, content_type=kind)
    assert answer.status_code == 422
    assert "prompt is missing" in sentence(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites_are_refused(visitor, headers):
    run = visitor.start(max_new_tokens=3)
    for path in ("/runs", f"{run}/stop", f"{run}/continue", f"{run}/retry"):
        answer = visitor.post(path, data=FORM, headers=headers)
        assert answer.status_code == 403
        assert "another site" in sentence(answer)


def test_our_own_forms_are_accepted(visitor):
    for headers in ({}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}):
        assert visitor.post("/runs", data=FORM, headers=headers).status_code == 303


def test_after_all_that_the_engine_still_serves(visitor):
    for junk in JUNK:
        visitor.post("/runs", data=dict.fromkeys(NUMBERS, junk) | {"prompt": junk, "model": junk, "stop": junk})
    run = visitor.start(max_new_tokens=5)
    assert visitor.finish(run)["samples"][0]["finish_reason"] == "length"
    assert visitor.get("/readyz").status_code == 200


def test_a_full_line_answers_503_with_retry_after(app, visitor, monkeypatch):
    monkeypatch.setattr(app.extensions["rubric"].engine, "max_waiting", 0)
    answer = visitor.post("/runs", data=FORM)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "The line is full" in sentence(answer)


def test_too_many_runs_in_a_minute_answer_429(app, visitor, monkeypatch):
    monkeypatch.setitem(app.config["SETTINGS"], "RUBRIC_RATE_LIMIT", "2 per minute")
    answers = [visitor.post("/runs", data=FORM) for _ in range(4)]
    assert [a.status_code for a in answers] == [303, 303, 429, 429]
    assert "wait a minute" in sentence(answers[-1])


def test_a_fault_of_ours_is_a_page_too(app, visitor, monkeypatch):
    monkeypatch.setattr(app.extensions["rubric"].vocabularies, "keep", lambda folder: 1 / 0)
    answer = visitor.post("/runs", data=FORM)
    assert answer.status_code == 500
    assert "on our side" in sentence(answer)
    assert "ZeroDivision" not in answer.text


def test_every_answer_carries_the_headers_of_safety(visitor):
    run = visitor.start(max_new_tokens=3)
    for path in ("/", run, f"{run}/events", f"{run}.json", "/nope", "/static/rubric.css", "/healthz"):
        headers = visitor.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Cache-Control"]


def test_files_that_caches_keep_carry_no_cookie(visitor):
    visitor.start(max_new_tokens=3)
    answer = visitor.get("/static/rubric.css")
    assert "max-age=31536000" in answer.headers["Cache-Control"]
    assert "Set-Cookie" not in answer.headers


def test_no_template_holds_a_script_or_style_of_its_own():
    from conftest import ROOT

    for template in (ROOT / "templates").rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|style=|<script(?![^>]*(?:src=|type=.application/json))|\son\w+=|hx-on", text), (
            template.name
        )


def test_a_cookie_that_was_tampered_with_owns_nothing(app, visitor, friend):
    run = visitor.start(max_new_tokens=4096)
    cookie = visitor.client.get_cookie("rubric").value
    friend.client.set_cookie("rubric", cookie[:-3] + "abc")
    assert friend.post(f"{run}/stop").status_code == 422
    assert visitor.post(f"{run}/stop").status_code == 303


def test_readyz_says_why_not(app, visitor, monkeypatch):
    monkeypatch.setattr(app.extensions["rubric"].engine, "ready", lambda: "The model tiny is being loaded.")
    answer = visitor.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["reason"] == "The model tiny is being loaded."
    assert visitor.get("/healthz").status_code == 200


def test_whoever_asks_readyz_while_a_model_is_loaded_is_no_visitor_that_was_refused(app, visitor, monkeypatch):
    answers = app.extensions["rubric"].answers.by_class
    monkeypatch.setattr(app.extensions["rubric"].engine, "ready", lambda: "The model tiny is being loaded.")
    assert visitor.get("/readyz").status_code == 503
    assert app.extensions["rubric"].answers.by_class == answers
