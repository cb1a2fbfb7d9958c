"""openai-python does its whole job. Run by tests/test_api_clients.py, in an environment that has it: ADDRESS KEY."""

import json
import sys
import urllib.request

import openai
from leaving import LONG, until_writing

address, key = sys.argv[1:]
client = openai.OpenAI(base_url=f"{address}/v1", api_key=key)
wish = {"model": "tiny", "prompt": "the old king", "seed": 1, "max_tokens": 12}


def refused(kind, **body):
    try:
        client.completions.create(**wish | body)
    except kind as error:
        return error
    raise AssertionError(f"{body} was answered")


# Whole
whole = client.completions.create(**wish)
assert whole.object == "text_completion"
assert whole.choices[0].finish_reason == "length"
assert whole.usage.total_tokens == whole.usage.prompt_tokens + 12
assert whole._request_id.startswith("req_")

# All fields that it knows
every = client.completions.create(
    **wish | {"prompt": ["the", "one two"], "max_tokens": 4},
    best_of=3,
    echo=True,
    frequency_penalty=0.5,
    logit_bias={"40": 5},
    logprobs=5,
    n=2,
    presence_penalty=0.5,
    stop=["zq", "qz"],
    temperature=0.9,
    top_p=0.9,
    user="somebody",
    extra_body={"top_k": 20, "min_p": 0.01, "return_token_ids": True},
)
assert [choice.index for choice in every.choices] == [0, 1, 2, 3]
for choice in every.choices:
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    assert len({len(getattr(choice.logprobs, name)) for name in names}) == 1
    assert choice.logprobs.token_logprobs[0] is None
    assert "".join(choice.logprobs.tokens).startswith(("the", "one"))
for prompt in ([1, 2, 3], [[1, 2, 3], [4]]):
    assert client.completions.create(**wish | {"prompt": prompt}).choices[0].text
assert client.completions.create(**wish).choices == whole.choices

# Streams
chunks = list(client.completions.create(**wish, stream=True, stream_options={"include_usage": True}))
assert "".join(c.text for chunk in chunks for c in chunk.choices) == whole.choices[0].text
assert chunks[-1].choices == []
assert chunks[-1].usage == whole.usage
told = [chunk for chunk in client.completions.create(**wish, stream=True, logprobs=3) if chunk.choices[0].logprobs]
assert len(told) == 12

# Cancelled: what is kept of it says how it ended
long = wish | {"model": "slow", "max_tokens": LONG}
with client.completions.create(**long, stream=True, extra_body={"store": True}) as stream:
    run = next(iter(stream)).rubric["url"]
until_writing(address, False)
(sample,) = json.load(urllib.request.urlopen(f"{run}.json"))["samples"]
assert sample["finish_reason"] == "cancelled"
assert len(sample["tokens"]) < LONG

# Given up, while nothing was streamed
try:
    client.with_options(max_retries=0, timeout=1).completions.create(**long)
except openai.APITimeoutError:
    until_writing(address, False)
else:
    raise AssertionError("the text was written in a second")

# Models
assert "tiny" in [model.id for model in client.models.list()]
assert client.models.retrieve("tiny").id == "tiny"

# Errors
error = refused(openai.BadRequestError, temperature=99)
assert (error.param, error.type, error.code) == ("temperature", "invalid_request_error", "invalid_value")
assert "temperature" in error.message
refused(openai.BadRequestError, suffix="end")
assert refused(openai.NotFoundError, model="nobody").code == "model_not_found"
stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", default_headers={"X-Forwarded-For": "1.2.3.4"})
try:
    code = stranger.models.list().data
except openai.AuthenticationError as error:
    code = error.code
assert code == "invalid_api_key"
print("done")
