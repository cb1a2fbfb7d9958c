"""Web pages of other sites use the API in a real browser, with a key: what mikupad and SillyTavern send, as they send it."""

import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT

READ = """async ({address, key, body}) => {
  const headers = {'Content-Type': 'application/json'};
  if (key) headers['Authorization'] = `Bearer ${key}`;
  try {
    const answer = await fetch(address, {method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body)});
    return {status: answer.status, text: await answer.text(), name: answer.headers.get('x-request-id')};
  } catch (error) {
    return {status: 0, text: String(error)};
  }
}"""
# What mikupad's openaiCompletion sends with everything set, its names changed as it changes them for an OpenAI endpoint.
MIKUPAD = {
    "stream": True,
    "prompt": "the old king",
    "model": "tiny",
    "seed": 1,
    "max_tokens": 12,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "tfs": 1,
    "typical_p": 1,
    "repetition_penalty": 1.1,
    "repetition_penalty_range": 0,
    "penalize_nl": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "mirostat_mode": 0,
    "mirostat_tau": 5,
    "mirostat_eta": 0.1,
    "dynamic_temperature": True,
    "dynatemp_low": 0.5,
    "dynatemp_high": 0.9,
    "dynatemp_range": 0.2,
    "dynatemp_exponent": 1,
    "xtc_threshold": 0.1,
    "xtc_probability": 0.5,
    "dry_multiplier": 0.8,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_sequence_breakers": ["\n", ":", '"', "*"],
    "dry_penalty_last_n": 1024,
    "banned_tokens": ["witch"],
    "logit_bias": {"5": -1},
    "ban_eos_token": False,
    "logprobs": 10,
    "stop": ["\n\n"],
}
# What SillyTavern's back end leaves of a "generic" request: OpenAI's keys, and four stop strings.
SILLYTAVERN = {
    "model": "tiny",
    "prompt": "the old king",
    "stream": True,
    "temperature": 1,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "stop": ["\nYou:", "\nKing:", "<|user|>", "###"],
    "seed": -1,
    "logit_bias": {},
    "logprobs": 10,
    "max_tokens": 12,
    "n": 1,
}


@pytest.fixture(scope="module")
def key(server) -> str:
    command = [sys.executable, "-m", "webapp", "keys", "add", "page"]
    return subprocess.run(
        command, cwd=ROOT, env=server.environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Two pages of other sites: one from another port, and one that is a file, as mikupad is."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "index.html").write_text("<!doctype html><title>elsewhere</title>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield {"site": f"http://127.0.0.1:{site.server_port}/index.html", "file": (folder / "index.html").as_uri()}
        site.shutdown()
        thread.join()


@pytest.fixture(params=["site", "file"])
def ask(browser, server, elsewhere, request):
    """Asks the API from within a page of another site."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(elsewhere[request.param])

    def ask(path="/v1/completions", key=None, **body):
        return page.evaluate(READ, {"address": server.url + path, "key": key, "body": body or None})

    yield ask
    context.close()


def chunks(text: str) -> list[dict]:
    blocks = text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


def test_mikupad_writes_with_a_key(ask, key):
    answer = ask(key=key, **MIKUPAD)
    assert answer["status"] == 200, answer
    found = chunks(answer["text"])
    assert any("banned_tokens" in warning for warning in found[0]["warnings"])
    told = [chunk["choices"][0]["logprobs"] for chunk in found if chunk["choices"][0]["logprobs"]]
    assert told
    assert all(len(entry["top_logprobs"]) == 1 for entry in told)  # it reads only the first
    assert all(len(entry["top_logprobs"][0]) >= 10 for entry in told)


def test_mikupad_lists_the_models(ask, key):
    answer = ask("/v1/models", key=key)
    assert "tiny" in [model["id"] for model in json.loads(answer["text"])["data"]]


def test_sillytavern_s_request_is_answered(ask, key):
    answer = ask(key=key, **SILLYTAVERN)
    assert answer["status"] == 200, answer
    assert answer["name"].startswith("req_")
    assert "warnings" not in chunks(answer["text"])[0]


def test_a_page_of_another_site_learns_that_its_key_is_wrong(ask):
    assert ask(key="wrong", **SILLYTAVERN)["status"] == 401


def test_without_a_key_it_reads_nothing(ask):
    assert ask(**SILLYTAVERN)["status"] == 0
    assert ask("/v1/models")["status"] == 0


def test_a_key_opens_none_of_the_page_s_own_addresses(ask, key):
    assert ask("/runs", key=key, prompt="the")["status"] == 0
    assert ask("/", key=key)["status"] == 0
