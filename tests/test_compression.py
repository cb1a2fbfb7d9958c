"""Text goes out by gzip to who takes it so, and is the same text; streams and a visitor's own list never do."""

import gzip

import pytest

TAKES = {"Accept-Encoding": "br;q=1.0, gzip;q=0.8, *;q=0.1"}
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
def run(visitor) -> str:
    run = visitor.start(max_new_tokens=30)
    visitor.finish(run)
    return run


@pytest.mark.parametrize("kind", ["page", "json", "style", "script", "htmx", "error"])
def test_text_is_the_same_by_gzip_and_plain(visitor, run, kind):
    address = {
        "page": "/v1",
        "json": f"{run}.json",
        "style": "/static/rubric.css",
        "script": "/static/rubric.js",
        "htmx": "/static/npm/htmx/htmx.min.js",
        "error": "/nowhere",
    }[kind]
    small, plain = visitor.get(address, headers=TAKES), visitor.get(address, headers=PLAIN)
    assert small.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(small.data) == plain.data
    assert len(small.data) < 0.6 * len(plain.data)
    assert "Accept-Encoding" in small.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    if "Content-Length" in small.headers:
        assert int(small.headers["Content-Length"]) == len(small.data)


def test_a_run_s_page_is_compressed_too(visitor, run):
    small = visitor.get(run, headers=TAKES)
    assert run in gzip.decompress(small.data).decode()


@pytest.mark.parametrize("refused", [{}, {"Accept-Encoding": "gzip;q=0"}, {"Accept-Encoding": "br"}])
def test_who_takes_no_gzip_gets_none(visitor, refused):
    assert "Content-Encoding" not in visitor.get("/static/rubric.css", headers=refused).headers


@pytest.mark.parametrize("view", ["/events", "/plain", ".png"])
def test_streams_and_pictures_go_out_as_they_are(visitor, run, view):
    assert "Content-Encoding" not in visitor.get(run + view, headers=TAKES).headers


def test_a_visitor_s_own_list_goes_out_as_it_is_lest_its_size_tell_of_its_links(visitor, run):
    for address in ("/runs", "/runs.jsonl"):
        answer = visitor.get(address, headers=TAKES)
        assert run in answer.text
        assert "Content-Encoding" not in answer.headers


def test_a_file_that_a_browser_has_is_not_sent_again_in_either_form(visitor):
    for headers in (TAKES, PLAIN):
        first = visitor.get("/static/rubric.css", headers=headers)
        assert first.headers["ETag"].startswith('W/"')
        for others in (TAKES, PLAIN):
            again = visitor.get("/static/rubric.css", headers={"If-None-Match": first.headers["ETag"]} | others)
            assert again.status_code == 304
            assert not again.data
            assert again.headers["ETag"] == first.headers["ETag"]
            assert "Accept-Encoding" in again.headers["Vary"]


def test_a_part_of_a_file_is_a_part_of_the_plain_one(visitor):
    answer = visitor.get("/static/rubric.css", headers={"Range": "bytes=0-99"} | TAKES)
    assert answer.status_code == 206
    assert answer.data == visitor.get("/static/rubric.css", headers=PLAIN).data[:100]


def test_what_is_asked_for_without_its_body_has_the_same_headers(visitor):
    got, asked = (visitor.client.open("/static/rubric.css", method=m, headers=TAKES) for m in ("GET", "HEAD"))
    assert {k: v for k, v in got.headers if k != "Date"} == {k: v for k, v in asked.headers if k != "Date"}
