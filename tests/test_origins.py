"""Where a form may come from: our own pages, however a browser, a proxy or a setting writes their address."""

import re

import pytest

FORM = {"prompt": "Once", "model": "tiny", "max_new_tokens": "2"}

OURS = [  # PUBLIC_URL, Host, Origin
    ("https://Rubric.Example", "127.0.0.1:8000", "https://rubric.example"),
    ("https://rubric.example:443", "127.0.0.1:8000", "https://rubric.example"),
    ("http://rubric.example:80", "127.0.0.1:8000", "http://rubric.example"),
    ("HTTPS://rubric.example", "127.0.0.1:8000", "https://rubric.example"),
    ("https://Bücher.example", "127.0.0.1:8000", "https://xn--bcher-kva.example"),
    ("https://straße.example:8443", "127.0.0.1:8000", "https://xn--strae-oqa.example:8443"),
    ("http://[0:0:0:0:0:0:0:1]:9000", "127.0.0.1:8000", "http://[::1]:9000"),
    ("https://example.org/rubric", "127.0.0.1:8000", "https://example.org"),
    ("", "Rubric.Example", "http://rubric.example"),
    ("", "rubric.example", "https://rubric.example"),  # a proxy that tells nothing ended the encryption
    ("", "rubric.example:443", "https://rubric.example"),
    ("", "rubric.example:80", "http://rubric.example"),
    ("", "[::1]:9000", "http://[::1]:9000"),
]
THEIRS = [
    ("https://rubric.example", "127.0.0.1:8000", "http://rubric.example"),
    ("https://rubric.example", "127.0.0.1:8000", "https://rubric.example:8443"),
    ("https://rubric.example", "127.0.0.1:8000", "https://rubric.example.evil.example"),
    ("https://rubric.example", "127.0.0.1:8000", "https://evil.example/https://rubric.example"),
    ("https://rubric.example", "127.0.0.1:8000", "http://[x"),
    ("https://rubric.example", "127.0.0.1:8000", "http://[::1"),
    ("https://rubric.example", "127.0.0.1:8000", "https://rubric.example:port"),
    ("https://rubric.example", "127.0.0.1:8000", "https://"),
    ("https://rubric.example", "127.0.0.1:8000", "//rubric.example"),
    ("https://rubric.example", "127.0.0.1:8000", "rubric.example"),
    ("https://rubric.example", "127.0.0.1:8000", "null"),
    ("https://rubric.example", "127.0.0.1:8000", ""),
    ("", "rubric.example:8000", "http://rubric.example"),
    ("", "rubric.example", "ftp://rubric.example"),
]


def posted(serve, public, host, origin, **more) -> int:
    visitor = serve(PUBLIC_URL=public, **more).visitor
    answer = visitor.post("/runs", data=FORM, headers={"Host": host, "Origin": origin})
    if answer.status_code == 403:
        assert "another site" in answer.text
    return answer.status_code


@pytest.mark.parametrize(("public", "host", "origin"), OURS)
def test_a_form_of_ours_is_taken(serve, public, host, origin):
    assert posted(serve, public, host, origin) == 303


@pytest.mark.parametrize(("public", "host", "origin"), THEIRS)
def test_a_form_of_others_is_refused(serve, public, host, origin):
    assert posted(serve, public, host, origin) == 403


@pytest.mark.parametrize(
    ("scheme", "origin", "status"),
    [
        ("https", "https://rubric.example", 303),
        ("HTTPS", "https://rubric.example", 303),
        ("HTTPS", "https://rubric.example:443", 303),
        ("https", "http://rubric.example", 403),
        ("http", "https://rubric.example", 403),
        (None, "https://rubric.example", 303),
    ],
)
def test_behind_a_trusted_proxy_the_scheme_that_it_tells_counts(serve, scheme, origin, status):
    visitor = serve(TRUSTED_PROXIES=1).visitor
    headers = {"X-Forwarded-Host": "rubric.example", "Origin": origin}
    answer = visitor.post("/runs", data=FORM, headers=headers | ({"X-Forwarded-Proto": scheme} if scheme else {}))
    assert answer.status_code == status


def test_links_have_a_scheme_in_lower_case(serve):
    visitor = serve(TRUSTED_PROXIES=1).visitor
    run = visitor.start()
    headers = {"X-Forwarded-Host": "rubric.example", "X-Forwarded-Proto": "HTTPS"}
    assert f'data-copy="https://rubric.example{run}"' in visitor.get(f"{run}/share", headers=headers).text


@pytest.mark.parametrize("kept", [True, False], ids=["a proxy that keeps the path", "a proxy that takes it off"])
def test_under_a_path_every_link_and_the_cookie_have_it(serve, kept):
    visitor = serve(PUBLIC_URL="https://example.org/a/rubric").visitor
    path = "/a/rubric" if kept else ""
    answer = visitor.post(f"{path}/runs", data=FORM, headers={"Origin": "https://example.org"})
    assert answer.headers["Location"].startswith("/a/rubric/r/")
    assert "; Path=/a/rubric" in answer.headers["Set-Cookie"]
    run = answer.headers["Location"]
    asked = run if kept else run.removeprefix("/a/rubric")
    linked = 0
    for address in (
        f"{path}/",
        asked,
        f"{path}/runs",
        f"{asked}/embed",
        f"{asked}/share",
        f"{path}/models/tiny",
        f"{path}/nowhere",
    ):
        page = visitor.get(address)
        for link in re.findall(r'\b(?:href|src|action|formaction|hx-get|hx-post|hx-sse:connect)="([^"]*)"', page.text):
            assert link.startswith(("/a/rubric/", "#", "https://example.org/a/rubric/")) or not link, (address, link)
            linked += 1
    assert linked > 40
    assert f'data-copy="https://example.org{run}"' in visitor.get(f"{asked}/share").text
    css = re.search(r'href="(/a/rubric/static/rubric.css[^"]*)"', visitor.get(f"{path}/").text)[1]
    assert visitor.get(css).status_code == 200


def test_the_path_itself_without_a_slash_is_the_first_page(serve):
    visitor = serve(PUBLIC_URL="https://example.org/rubric").visitor
    assert "you write in black" in visitor.get("/rubric").text
    assert visitor.get("/rubrics").status_code == 404
