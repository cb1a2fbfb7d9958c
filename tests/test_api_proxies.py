"""Whoever comes by a proxy needs a key of the API, also where the proxy says nothing of itself and asks for this machine."""

import urllib.error
import urllib.request

import pytest
from browser import serving
from proxies import NGINX, proxy, proxy_path

# what nginx does from 1.29.7 on where nobody sets anything
LATER = NGINX.replace("access_log off;", 'access_log off; proxy_http_version 1.1; proxy_set_header Connection "";')


def status_at(address: str) -> int:
    try:
        return urllib.request.urlopen(f"{address}/v1/models", timeout=60).status
    except urllib.error.HTTPError as refused:
        return refused.code


def through_nginx(server, ports, folder, settings=None) -> int:
    if not proxy_path("nginx"):
        pytest.fail("nginx is missing: install it for the tests (on Debian: apt install nginx).", pytrace=False)
    with proxy("nginx", folder, server.port, **ports, settings=settings):
        return status_at(f"http://127.0.0.1:{ports['plain']}")


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_a_request_by_an_old_protocol_needs_a_key(visitor, path):
    home = {"Host": "127.0.0.1:8000"}
    assert visitor.get(path, headers=home).status_code == 200
    assert visitor.get(path, headers=home, environ_overrides={"SERVER_PROTOCOL": "HTTP/1.0"}).status_code == 401


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"PUBLIC_URL": "https://rubric.example"}, 401),
        ({"PUBLIC_URL": "https://192.0.2.1/rubric"}, 401),
        ({"TRUSTED_PROXIES": 1}, 401),
        ({"PUBLIC_URL": "http://localhost:9000"}, 200),
        ({"PUBLIC_URL": "http://[::1]:9000/rubric"}, 200),
    ],
)
def test_where_the_settings_say_that_others_come_everybody_needs_one(serve, settings, status):
    visitor = serve(**settings).visitor
    home = {"Host": "localhost:8000"}
    assert visitor.get("/v1/models", headers=home).status_code == status
    assert ("RUBRIC_KEY" in visitor.get("/v1", headers=home).text) is (status == 401)


@pytest.mark.long
def test_nginx_that_has_nothing_but_an_address_lets_nobody_in_without_a_key(models, ports, tmp_path):
    with serving(tmp_path, models, RUBRIC_MODEL="tiny") as server:
        assert status_at(server.url) == 200
        assert through_nginx(server, ports, tmp_path) == 401


@pytest.mark.long
def test_nor_does_a_later_nginx_where_the_settings_tell_of_it(models, ports, tmp_path):
    with serving(tmp_path, models, RUBRIC_MODEL="tiny", PUBLIC_URL="https://rubric.example") as server:
        assert through_nginx(server, ports, tmp_path, LATER) == 401
