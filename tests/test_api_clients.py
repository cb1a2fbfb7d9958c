"""Other people's clients, unmodified, from PyPI, against a real server. Their environment is made once and kept."""

import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT
from environments import CLIENTS, environment

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def python():
    return environment("clients", CLIENTS)


@pytest.mark.timeout(900)  # the first time pip fetches them
@pytest.mark.parametrize("name", ["openai", "langchain", "llm"])
def test_a_client_does_its_whole_job(server, python, name):
    script = ROOT / "tests" / "api_clients" / f"with_{name}.py"
    done = subprocess.run([python, script, server.url, "any"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


@contextmanager
def busy_at_first(server, times: int):
    """A server that is told 503 by a full one so many times, as the API says it, and then reaches the real one."""
    seen = []

    class Front(BaseHTTPRequestHandler):
        def do_POST(self):
            import urllib.request

            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.path)
            if len(seen) <= times:
                self.send_response(503)
                self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(
                    b'{"error": {"message": "busy", "type": "server_error", "param": null, "code": "busy"}}'
                )
                return
            answer = urllib.request.urlopen(urllib.request.Request(server.url + self.path, body), timeout=60)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer.read())

        def log_message(self, *_):
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as front:
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{front.server_port}", seen
        front.shutdown()
        thread.join()


ASKING = {  # each prints how many tokens were written
    "openai": """
import openai, sys
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="any")
print(client.completions.create(model="tiny", prompt="the").usage.completion_tokens)
""",
    "langchain": """
import sys
from langchain_openai import OpenAI
model = OpenAI(model="tiny", base_url=sys.argv[1] + "/v1", api_key="any", max_tokens=16)
print(model.generate(["the"]).llm_output["token_usage"]["completion_tokens"])
""",
    "llm": """
import os, pathlib, sys, tempfile
os.environ["LLM_USER_PATH"] = home = tempfile.mkdtemp()
line = f"- {{model_id: mine, model_name: tiny, api_base: {sys.argv[1]}/v1, completion: true}}"
pathlib.Path(home, "extra-openai-models.yaml").write_text(line)
import llm
answer = llm.get_model("mine").prompt("the", key="any", stream=False, max_tokens=16)
print(16 if answer.text() else 0)  # it counts no tokens of completions
""",
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ASKING)
def test_a_client_comes_back_after_a_503(server, python, name):
    with busy_at_first(server, 2) as (address, seen):
        done = subprocess.run(
            [python, "-c", ASKING[name], address], capture_output=True, text=True, check=False, timeout=120
        )
    assert done.stdout.strip() == "16", done.stderr
    assert len(seen) == 3
