"""`llm` does its whole job at the terminal. Run by tests/test_api_clients.py, in an environment that has it: ADDRESS KEY."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

address, key = sys.argv[1:]
home = Path(tempfile.mkdtemp())
(home / "extra-openai-models.yaml").write_text(
    f"- {{model_id: mine, model_name: tiny, api_base: {address}/v1, completion: true, api_key_name: mine}}\n"
)


def run(*words: str) -> str:
    command = [str(Path(sys.executable).with_name("llm")), *words]
    environment = os.environ | {"LLM_USER_PATH": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
print("done")
