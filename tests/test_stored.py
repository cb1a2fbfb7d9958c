"""The page on what is stored says what the server does, with the figures that it goes by; crawlers are told to stay away."""

import html
import re
from urllib.robotparser import RobotFileParser

import pytest
from conftest import Visitor

from webapp.moderation import blocks, reports
from webapp.runs import presses
from webapp.sheets import suggestions


def page_of(visitor) -> str:
    """The page's sentences."""
    found = re.sub(r"<[^>]+>", " ", visitor.get("/stored").text.partition("<main")[2])
    return html.unescape(" ".join(found.split()))


def test_each_figure_is_the_one_that_the_server_goes_by(a):
    said = page_of(a.visitor)
    assert f"stands for {blocks.KEPT.days} days a keyed hash" in said
    assert f"known by a hash for {presses.KEPT / 3600:.0f} hours" in said
    assert f"Suggestions stay in memory for {suggestions.KEPT / 60:.0f} minutes at the most" in said
    assert f"put it aside, for {reports.KEPT.days} days at the most" in said
    assert a.app.permanent_session_lifetime.days == 365
    assert "A cookie with a random name, for a year" in said


def test_the_figures_are_taken_from_there(a, monkeypatch):
    from datetime import timedelta

    monkeypatch.setattr(blocks, "KEPT", timedelta(days=3))
    monkeypatch.setattr(reports, "KEPT", timedelta(days=44))
    monkeypatch.setattr(presses, "KEPT", 5 * 3600)
    monkeypatch.setattr(suggestions, "KEPT", 60 * 17)
    said = page_of(a.visitor)
    for figure in ("for 3 days a keyed", "for 44 days at", "for 5 hours", "for 17 minutes"):
        assert figure in said


def test_it_says_how_long_texts_are_kept(a, serve):
    assert "It stays until you delete it" in page_of(a.visitor)
    said = page_of(serve(RUBRIC_KEEP_DAYS=30).visitor)
    assert "A sheet is removed 30 days after its last change, and a run 30 days after it was started" in said
    assert "It stays until" not in said


def test_the_cookie_comes_with_what_is_sent_and_not_by_reading(a):
    visitor, run = Visitor(a.app), a.write(max_new_tokens=1)
    for path in ("/", run, "/runs", "/stored", f"{run}/report", f"{run}/share", "/v1"):
        assert "Set-Cookie" not in visitor.get(path).headers, path
    assert "You have it." not in page_of(visitor)
    visitor.start(max_new_tokens=1)
    assert "You have it." in page_of(visitor)


def test_no_other_site_is_asked_for_anything(a):
    policy = a.visitor.get("/").headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for name in ("script-src", "style-src", "font-src", "img-src", "connect-src", "form-action"):
        assert set(re.sub("'nonce-[^']*'", "", directives[name]).split()) == {"'self'"}
    assert directives["default-src"] == "'none'"


def test_it_says_whether_the_server_is_private_and_whether_another_machine_writes(serve, a):
    assert "Nothing here is shown without the password" not in page_of(a.visitor)
    closed = serve(RUBRIC_PASSWORD="open sesame")
    closed.visitor.post("/login", data={"password": "open sesame"})
    assert "Nothing here is shown without the password" in page_of(closed.visitor)
    assert "another machine" not in page_of(a.visitor)
    assert "another machine, which is sent the text" in page_of(serve(RUBRIC_ENGINE=("http://127.0.0.1:9",)).visitor)


def test_every_page_links_to_it(a):
    run = a.write(max_new_tokens=1)
    for path in ("/", run, "/runs", "/v1", "/models/tiny", "/nowhere"):
        assert 'href="/stored"' in a.visitor.get(path).text, path


# Crawlers


def allowed(server, agent: str, path: str) -> bool:
    """Whether a crawler may read a path; the standard library knows no `$`, which is asked for by hand."""
    text = server.app.test_client().get("/robots.txt").text
    parser = RobotFileParser()
    parser.parse(line for line in text.splitlines() if not line.endswith("$"))
    return parser.can_fetch(agent, path) or (path == "/" and "User-agent: *\nAllow: /$\n" in text)


@pytest.mark.parametrize("path", ["/r/abc", "/s/abc", "/runs", "/r/abc.png", "/v1", "/workshop", "/login"])
def test_crawlers_may_read_the_first_page_and_no_run(a, path):
    assert not allowed(a, "Googlebot", path)
    assert allowed(a, "Googlebot", "/")
    assert allowed(a, "Googlebot", "/static/rubric.css")
    assert allowed(a, "Twitterbot", "/r/abc.png"), "a chat draws the preview of a link that somebody put there"


def test_a_link_is_not_indexed_even_by_who_does_not_ask_first(a):
    run = a.write(max_new_tokens=1)
    assert a.visitor.get(run).headers["X-Robots-Tag"] == "noindex"
    assert '<meta name="robots" content="noindex">' in a.visitor.get(run).text


def test_under_a_path_the_rules_name_it(serve):
    text = serve(PUBLIC_URL="https://example.org/rubric").app.test_client().get("/robots.txt").text
    assert "Allow: /rubric/$" in text
    assert "Disallow: /rubric/\n" in text
