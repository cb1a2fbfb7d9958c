"""LangChain's OpenAI does its whole job. Run by tests/test_api_clients.py, in an environment that has it: ADDRESS KEY."""

import asyncio
import gc
import sys

import openai
from langchain_openai import OpenAI
from leaving import LONG, until_writing

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


# Errors: those of openai-python, which it hands on
def refused(kind, ask) -> str:
    try:
        ask("the old king")
    except kind as error:
        return error.message
    raise AssertionError(f"it was answered, and no {kind.__name__}")


for wrong, kind, said in (
    ({"temperature": 99}, openai.BadRequestError, "temperature"),
    ({"model": "nobody"}, openai.NotFoundError, "nobody"),
    ({"default_headers": {"X-Forwarded-For": "192.0.2.1"}, "api_key": "wrong"}, openai.AuthenticationError, "key"),
):
    client = OpenAI(**options | wrong)
    assert said in refused(kind, client.invoke)
    assert said in refused(kind, lambda prompt, client=client: list(client.stream(prompt)))

# Cancelled: a stream that nobody reads on, and one that its task is taken from
long = OpenAI(**options | {"model": "slow", "max_tokens": LONG})
parts = long.stream("the old king")
assert next(parts)
until_writing(address, True)
parts.close()
del parts
gc.collect()  # LangChain keeps the client's stream until it is forgotten
until_writing(address, False)


async def leave() -> None:
    async def read() -> None:
        async for _ in long.astream("the old king"):
            begun.set()

    begun = asyncio.Event()
    task = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    await asyncio.wait([task])


asyncio.run(leave())
until_writing(address, False)
print("done")
