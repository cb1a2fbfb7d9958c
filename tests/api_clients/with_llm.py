"""`llm` does its whole job at the terminal. Run by tests/test_api_clients.py, in an environment that has it: ADDRESS KEY."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from leaving import LONG, until_writing

address, key = sys.argv[1:]
home = Path(tempfile.mkdtemp())
environment = os.environ | {"LLM_USER_PATH": str(home)}
(home / "extra-openai-models.yaml").write_text(
    "".join(
        f"- {{model_id: {name}, model_name: {model}, api_base: {address}/v1, completion: true, api_key_name: mine}}\n"
        for name, model in {"mine": "tiny", "long": "slow", "none": "nobody"}.items()
    )
)


def command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("llm")), *words]


def run(*words: str, status: int = 0) -> str:
    """What it prints; where it ends with another status, what it says went wrong."""
    done = subprocess.run(command(*words), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, (done.returncode, done.stderr)
    return done.stderr if status else done.stdout


run("keys", "set", "mine", "--value", key)
assert "mine" in run("models")
wish = ("-m", "mine", "-o", "max_tokens", "10", "-o", "seed", "1", "-o", "temperature", "0.5")
streamed = run("prompt", "the old king", *wish)
assert streamed.strip()
assert run("prompt", "the old king", "--no-stream", *wish) == streamed
assert run("prompt", "the old king", "-o", "logprobs", "3", *wish) == streamed
assert run("prompt", "and then", "-c", *wish[2:]).strip()  # goes on from the last, which it keeps itself
kept = json.loads(run("logs", "--json", "--count", "0"))
assert len(kept) == 4
assert all(one["response"].strip() for one in kept)

# Errors
for stream in ((), ("--no-stream",)):
    assert "max_tokens" in run("prompt", "the", "-m", "mine", "-o", "max_tokens", "99999", *stream, status=1)
    assert "nobody" in run("prompt", "the", "-m", "none", *stream, status=1)

# Cancelled: Ctrl-C
for stream in ((), ("--no-stream",)):
    words = command("prompt", "the old king", "-m", "long", "-o", "max_tokens", str(LONG), *stream)
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as going:
        until_writing(address, True)
        if not stream:
            assert going.stdout.read(1)
        going.send_signal(signal.SIGINT)
    assert going.returncode != 0
    until_writing(address, False)
print("done")
