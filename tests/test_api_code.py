"""The description of the API, its page, and runs and texts as the requests that write them."""

import ast
import html
import json
import re
import shlex
import subprocess

import pytest
from browser import opened, unfold
from conftest import Visitor
from environments import CLIENTS, environment
from test_api import Asker
from waiting import until

from generate import LISTS, OPTIONS, Refusal
from webapp.api.fields import ALL, read


@pytest.fixture
def asker(app) -> Asker:
    return Asker(app)


@pytest.fixture
def description(app) -> dict:
    return app.test_client().get("/v1/openapi.json").get_json()


# The description


def test_every_option_of_the_table_is_a_field_and_is_described(description):
    described = description["components"]["schemas"]["Request"]["properties"]
    assert described.keys() == ALL.keys()
    assert {option.name for option in OPTIONS + LISTS} <= described.keys()
    assert all(field["description"] for field in described.values())


def bounds(description):
    for name, field in description["components"]["schemas"]["Request"]["properties"].items():
        schema = field["anyOf"][0]
        if "minimum" in schema:
            yield name, schema["minimum"], schema["maximum"]


def test_the_limits_that_it_names_are_those_that_hold(description):
    found = list(bounds(description))
    assert len(found) > 20
    for name, low, high in found:
        for inside in (low, high):
            read({name: inside, "best_of": 32} if name == "n" else {name: inside})
        for outside in (low - 1, high + 1):
            with pytest.raises(Refusal) as refused:
                read({name: outside})
            assert refused.value.field == name


def test_the_defaults_that_it_names_are_those_that_hold(asker, description):
    fields = description["components"]["schemas"]["Request"]["properties"]
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    assert {"max_tokens", "temperature", "n", "echo", "parse_special"} <= defaults.keys()
    assert asker.choice(prompt="the <|endoftext|>", **defaults) == asker.choice(prompt="the <|endoftext|>")


def test_every_address_that_it_names_is_there(app, description):
    rules = {re.sub(r"<.*?>", "{model}", rule.rule) for rule in app.url_map.iter_rules()}
    assert description["paths"].keys() <= rules


def resolved(schema: dict, description: dict) -> dict:
    return description["components"]["schemas"][schema["$ref"].split("/")[-1]] if "$ref" in schema else schema


def check(value, schema: dict, description: dict) -> None:
    """That a value is as a schema says, as far as these schemas say anything, and that it has nothing that is not said."""
    schema = resolved(schema, description)
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    allowed = schema.get("type")
    if allowed is not None:
        allowed = [allowed] if isinstance(allowed, str) else allowed
        assert isinstance(
            value,
            tuple(kinds[kind] for kind in allowed if kind != "number") + ((int, float) if "number" in allowed else ()),
        ), (value, schema)
    if isinstance(value, dict) and "properties" in schema:
        assert value.keys() <= schema["properties"].keys()
        assert set(schema.get("required", ())) <= value.keys()
        for name, inner in value.items():
            check(inner, schema["properties"][name], description)
    if isinstance(value, list) and "items" in schema:
        for inner in value:
            check(inner, schema["items"], description)


def test_answers_are_as_they_are_described(app, asker, description):
    answers = description["paths"]["/v1/completions"]["post"]["responses"]
    whole = answers["200"]["content"]["application/json"]["schema"]
    check(
        asker.ask(prompt="the", logprobs=3, echo=True, return_token_ids=True, prompt_logprobs=1, mirostat=1),
        whole,
        description,
    )
    check(asker.ask(prompt="the", store=True), whole, description)
    for chunk in asker.stream(prompt="the", logprobs=3, stream_options={"include_usage": True}):
        check(chunk, whole, description)
    check({"error": asker.error(n=0)}, answers["4XX"]["content"]["application/json"]["schema"], description)
    models = description["paths"]["/v1/models"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    check(app.test_client().get("/v1/models").get_json(), models, description)


# The page


def test_the_page_has_three_examples_with_this_server_s_address(app):
    page = html.unescape(app.test_client().get("/v1", headers={"Host": "127.0.0.1:8123"}).text)
    for part in (
        "curl http://127.0.0.1:8123/v1/completions",
        'base_url="http://127.0.0.1:8123/v1"',
        "lm_eval --model local-completions",
    ):
        assert part in page
    assert all(f"<code>{name}</code>" in page for name in ALL)


def test_elsewhere_the_examples_bring_a_key(app):
    page = html.unescape(app.test_client().get("/v1", headers={"Host": "rubric.example"}).text)
    assert page.count("RUBRIC_KEY") >= 3


# As code


def body_in(curl: str) -> dict:
    """What a curl command sends."""
    words = shlex.split(curl.replace("\\\n", " "))
    return json.loads(words[words.index("-d") + 1])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 1.2, "top_k": 0, "samples": 3, "seed": 9},
        {"preset": "steady", "stop": "zq\nqz", "min_new_tokens": 3},
        {"logit_bias": "37 = -5\nking = 2.5", "repetition_penalty": 1.2, "banned_phrases": "witch"},
        {"prompt": "it's <|endoftext|> “quoted” \\ and\nbroken 从前 🦊 $HOME `x`", "parse_special": "on"},
        {"prompt": "<|endoftext|> as a text"},
    ],
)
def test_a_run_as_code_writes_the_run(app, asker, fields):
    visitor = Visitor(app)
    run = visitor.start(**fields)
    stored = visitor.finish(run)
    told = visitor.get(f"{run}/code").get_json()
    answer = asker.client.post(
        "/v1/completions", json=body_in(told["curl"]) | {"return_token_ids": True}, buffered=True
    ).get_json()
    assert [choice["token_ids"] for choice in answer["choices"]] == [
        [token["id"] for token in sample["tokens"]] for sample in stored["samples"]
    ]
    assert "warnings" not in answer
    ast.parse(told["python"])


def test_the_form_as_code_is_the_run_that_it_would_start(app):
    visitor = Visitor(app)
    fields = {"prompt": "the old king", "model": "tiny", "seed": "5", "temperature": "1.1", "max_new_tokens": "9"}
    run = visitor.start(**fields)
    assert visitor.post("/code", data=fields).get_json() == visitor.get(f"{run}/code").get_json()


def test_what_cannot_be_is_a_sentence(app):
    answer = Visitor(app).post(
        "/code", data={"prompt": "x", "model": "tiny", "top_k": "many"}, headers={"Accept": "application/json"}
    )
    assert answer.status_code == 422
    assert "top_k" in answer.get_json()["problem"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_both_forms_run_as_they_stand(server):
    import urllib.request

    def code(**fields):
        from urllib.parse import urlencode

        return json.load(urllib.request.urlopen(server.url + "/code", urlencode(fields).encode()))

    wish = {"prompt": "the old king's", "model": "tiny", "seed": "5", "max_new_tokens": "9", "samples": "2"}
    told = code(**wish)
    by_curl = subprocess.run(["bash", "-c", told["curl"]], capture_output=True, text=True, check=True).stdout
    python = environment("clients", CLIENTS)
    by_python = subprocess.run([python, "-c", told["python"]], capture_output=True, text=True, check=True).stdout
    texts = [choice["text"] for choice in json.loads(by_curl)["choices"]]
    assert by_python == "".join(f"{text}\n" for text in texts)


@pytest.mark.long
def test_the_sheet_shows_its_text_as_code(browser, server):
    with opened(browser, server) as window:
        page = window.page
        window.type("the old king", page="/?model=tiny&seed=5&max_new_tokens=9")
        unfold(page)
        page.click("#as-code summary")
        curl = lambda: page.text_content("#as-code [data-form=curl]")  # noqa: E731
        until(lambda: "the old king" in curl(), what="the code of what would be written")
        assert "would go on" in page.text_content("#as-code [role=status]")
        assert body_in(curl())["max_tokens"] == 9
        page.click("#as-code summary")
        page.keyboard.press("Escape")
        page.click("#write-on")
        run = window.wait_until_written()
        unfold(page)
        page.click("#as-code summary")
        until(lambda: "wrote last" in page.text_content("#as-code [role=status]"), what="the code of what was written")
        assert body_in(curl())["seed"] == run["options"]["seed"]
