"""LangChain's OpenAI does its whole job. Run by tests/test_api_clients.py, in an environment that has it: ADDRESS KEY."""

import asyncio
import sys

from langchain_openai import OpenAI

address, key = sys.argv[1:]
options = {"model": "tiny", "base_url": f"{address}/v1", "api_key": key, "max_tokens": 8}

model = OpenAI(**options, temperature=0)
first = model.invoke("the old king")
assert first

# Twenty and more prompts, which it sends in lists of twenty, and n of each
prompts = [f"the old king {number}" for number in range(25)]
many = OpenAI(**options, temperature=0).generate(prompts)
assert len(many.generations) == 25
assert many.generations[0][0].text == model.invoke(prompts[0])
assert many.llm_output["token_usage"]["completion_tokens"] == 25 * 8
several = OpenAI(**options, n=3, best_of=3, seed=1).generate(["the", "one"])
assert [len(found) for found in several.generations] == [3, 3]
assert len({found.text for found in several.generations[0]}) > 1

# Log-probabilities
told = OpenAI(**options, logprobs=3).generate(["the"]).generations[0][0].generation_info
assert told["finish_reason"] == "length"
assert len(told["logprobs"]["tokens"]) == 8

# Streams, both ways; batches; stops
assert "".join(model.stream("the old king")) == first


async def stream() -> str:
    return "".join([part async for part in model.astream("the old king")])


assert asyncio.run(stream()) == first
assert model.batch(["the old king", "the"])[0] == first
assert " old" not in OpenAI(**options, temperature=0).invoke("the", stop=[" old"])
print("done")
