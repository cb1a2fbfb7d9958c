"""Bodies that cannot be: a 4xx in OpenAI's form that names the field, and never a traceback."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webapp.api.fields import ALL

NO_NUMBER = ["x", "5", True, False, [], [1], {}, {"a": 1}, float("nan"), float("inf"), 10**400]
NO_FLAG = ["true", 1, 0, [], {}, 0.5]
NO_STRING = [5, True, [], {}, 0.5]
FLAGS = ["echo", "stream", "store", "ignore_eos", "return_token_ids", "return_tokens_as_token_ids", "parse_special"]
NUMBERS = ["max_tokens", "n", "best_of", "logprobs", "prompt_logprobs", "temperature", "top_p", "top_k", "min_p"]
NUMBERS += ["seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "xtc_probability"]
NUMBERS += ["dry_multiplier", "top_n_sigma", "n_keep"]
BEYOND = {
    "max_tokens": [-1, 4097, 0.5],
    "n": [0, 33, -1, 1.5],
    "best_of": [0, 33],
    "logprobs": [-1, 11, 0.5],
    "prompt_logprobs": [-1, 11],
    "temperature": [-0.1, 5.1],
    "top_p": [-0.1, 1.1],
    "top_k": [-2, 0.5, 10**7],
    "min_p": [-1, 2],
    "seed": [-2, 2**32, 0.5],
    "presence_penalty": [-2.1, 2.1],
    "frequency_penalty": [-3, 3],
    "repetition_penalty": [0, 11],
    "min_tokens": [-1, 4097],
    "n_keep": [-1, 17],  # a quarter of the window of 64 is 16
}
PROMPTS = [
    5,
    True,
    {},
    [],
    [[]],
    [5, "a"],
    ["a", 5],
    [[5], "a"],
    [[5], []],
    [-1],
    [[-1]],
    [0.5],
    [[0.5]],
    [True],
    [[True]],
]
PROMPTS += [
    [300],
    [[300]],
    [10**30],
    [[10**400]],
    [[[5]]],
    [None],
    [[None]],
    ["a", None],
    [{}],
    "x" * 20001,
    [[5] * (20001 + 4096)],
]
OTHERS = [
    *(
        ("stop", value)
        for value in (5, True, {}, [5], ["a", None], ["a"] * 0 + list("abcdefghi"), "x" * 201, ["\ud800"])
    ),
    *(("banned_phrases", value) for value in (5, {}, [5], "x" * 201)),
    *(("dry_sequence_breakers", value) for value in (5, {}, [5])),
    *(
        ("logit_bias", value)
        for value in (
            5,
            "5",
            [5],
            [[5]],
            [[5, "x"]],
            [["nonsense", 1]],
            {"5": "x"},
            {"5": None},
            {"5": 101},
            {"5": float("nan")},
        )
    ),
    *(
        ("logit_bias", value)
        for value in ({"300": 1}, {"nonsense": 1}, {"": 1}, {"5": True}, {str(n): 1 for n in range(301)})
    ),
    *(("stream_options", value) for value in (5, [], "x")),
    *(("suffix", value) for value in (5, [], "x")),
    *(("stop_token_ids", value) for value in (5, "x", {}, ["x"], [-1], [True], [5], [0, 5], [10**400])),
    *(("preset", value) for value in (5, "nobody", [])),
    *(("model", value) for value in (5, [], {}, True, "nobody", "../tiny", "\0", "x" * 5000)),
    *(("user", value) for value in (5, [], {})),
]
WRONG = [(name, value) for name in FLAGS for value in NO_FLAG]
WRONG += [(name, value) for name in NUMBERS for value in NO_NUMBER]
WRONG += [(name, value) for name, values in BEYOND.items() for value in values]
WRONG += [("prompt", value) for value in PROMPTS] + OTHERS


@pytest.fixture(scope="module")
def client(app):
    return app.test_client()


def ask(client, body, address="/v1/completions"):
    return client.post(address, data=body if isinstance(body, bytes | str) else json.dumps(body), buffered=True)


def error_of(answer) -> dict:
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.get_json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 600
    return error


def test_there_are_more_than_200_of_them():
    assert len(WRONG) > 200


def test_each_is_refused_and_names_its_field(client, caplog):
    for name, value in WRONG:
        body = {"model": "tiny", "prompt": "the", "max_tokens": 1, name: value}
        for more in ({}, {"stream": True}) if name != "stream" else ({},):
            error = error_of(ask(client, body | more))
            assert error["param"] == name, (name, value, error)
            assert name in error["message"] or name in ("model", "prompt"), error
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 3, "stream": True}, "best_of"),
        ({"max_tokens": 5, "max_new_tokens": 6}, "max_new_tokens"),
        ({"n": 2, "samples": 3}, "samples"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"n": 20, "prompt": ["a", "b"]}, "n"),
    ],
)
def test_what_does_not_go_together_is_refused(client, body, field):
    assert error_of(ask(client, {"model": "tiny"} | body))["param"] == field


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"5", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 30_000, b"{'a': 1}"]
)
def test_what_is_no_json_object_is_refused(client, body):
    for address in ("/v1/completions", "/tokenize", "/detokenize"):
        assert "JSON object" in error_of(ask(client, body, address))["message"]


def test_too_large_a_body_is_refused_in_the_same_form(client):
    answer = ask(client, {"prompt": "x" * 2_000_000})
    assert answer.status_code == 413
    assert "184000 bytes" in error_of(answer)["message"].replace(",", "")
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("address", "body", "field"),
    [
        *(("/tokenize", {"prompt": value}, "prompt") for value in (None, 5, [], {}, "x" * 20001)),
        *(("/tokenize", {"prompt": "x", "add_special_tokens": value}, "add_special_tokens") for value in (1, "x", [])),
        *(
            ("/detokenize", {"tokens": value}, "tokens")
            for value in (None, 5, "x", [-1], [0.5], [True], [[5]], [300], [10**400])
        ),
        ("/tokenize", {"prompt": "x", "model": "nobody"}, "model"),
    ],
)
def test_the_tokenizer_s_addresses_refuse_alike(client, address, body, field):
    assert error_of(ask(client, {"model": "tiny"} | body, address))["param"] == field


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_method_is_refused_in_the_same_form(client, method):
    for address in ("/v1/completions", "/tokenize", "/detokenize"):
        assert "There is no" in error_of(client.open(address, method=method))["message"]
    other = "POST" if method == "GET" else method
    assert other in error_of(client.open("/tokenizer_info", method=other))["message"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400)
@given(body=st.dictionaries(st.sampled_from(sorted(ALL)) | st.text(max_size=8), ANYTHING, max_size=5))
def test_whatever_comes_is_answered_or_refused_in_openai_s_form(client, body):
    answer = ask(client, {"model": "tiny", "max_tokens": 1} | body)
    if answer.status_code != 200:
        param = error_of(answer)["param"]
        assert param is not None
