"""The description of the API, its page, and runs and texts as the requests that write them."""

import ast
import html
import json
import re
import shlex
import subprocess
import urllib.request
from urllib.parse import urlencode

import pytest
from browser import opened, unfold
from conftest import Visitor
from environments import CLIENTS, environment
from test_api import Asker
from test_sheets import JSON, Page
from test_suggestions import ask as suggested
from test_suggestions import take
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
    assert "OPENAI_API_KEY=$RUBRIC_KEY lm_eval" in page, (
        "it reads its key there, and for the tokenizer alone from its arguments"
    )


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


def answered(asker, curl: str) -> list[list[int]]:
    """The ids of the tokens that a curl command's request writes, of each of its choices."""
    body = body_in(curl) | {"return_token_ids": True}
    answer = asker.client.post("/v1/completions", json=body, buffered=True).get_json()
    assert "warnings" not in answer
    return [choice["token_ids"] for choice in answer["choices"]]


def ids_of(stored: dict, sample: int = 0) -> list[int]:
    return [token["id"] for token in stored["samples"][sample]["tokens"]]


def test_a_sample_as_code_writes_that_one_and_so_does_what_goes_on_from_it(app, asker):
    visitor = Visitor(app)
    run = visitor.start(samples=4, temperature=1.2, top_k=0, seed=9)
    third = ids_of(visitor.finish(run), 2)
    assert answered(asker, visitor.get(f"{run}/code?sample=2").get_json()["curl"]) == [third]
    on = visitor.post(f"{run}/continue", data={"sample": "2"}).headers["Location"]
    assert answered(asker, visitor.get(f"{on}/code").get_json()["curl"]) == [ids_of(visitor.finish(on))]
    assert visitor.get(f"{run}/code?sample=4").status_code == 404


def test_a_suggestion_that_was_taken_word_by_word_is_written_by_its_code(app, asker):
    page = Page(Visitor(app)).open("Once upon")
    told = suggested(page, turn=4)
    first, second = told.count(2, words=1), told.count(2)
    take(page, told, sample=2, end=first)
    take(page, told, sample=2, start=first, end=second)
    runs = list(dict.fromkeys(version["run"] for version in page.state["versions"]))
    assert runs
    for run in runs:
        stored = page.http.json(f"/r/{run}")
        written = answered(asker, page.http.get(f"/r/{run}/code?sample=0").get_json()["curl"])[0]
        assert written[: len(ids_of(stored))] == ids_of(stored)
        assert ids_of(stored)


OPTIONS_SENT = {  # as the page's form has them: all fields, most of them empty
    **dict.fromkeys([option.name for option in OPTIONS + LISTS if option.name != "samples"], ""),
    **{"model": "tiny", "preset": "model", "seed": "5", "temperature": "1.1", "max_new_tokens": "90"},
}


@pytest.mark.parametrize("memory", ["", "the young fox"])
@pytest.mark.parametrize("text", ["the old king", ""])
def test_what_would_go_on_as_code_is_what_the_model_then_writes(app, asker, text, memory):
    """A quarter of its length before the end the text may end with a sentence, as nobody asked for anything else."""
    page, sent = Page(Visitor(app)), {"options": OPTIONS_SENT, "memory": memory}
    if text:
        page.open(text, **sent)
        at = {"rev": page.state["rev"], "at": len(page.text)}
        told = page.http.post(f"{page.address}/code", json=at | {"options": OPTIONS_SENT}, headers=JSON).get_json()
    else:
        told = page.http.post("/code", json=sent, headers=JSON).get_json()
        page.open(text, **sent)
    body = body_in(told["curl"])
    assert (body["end_at_sentence"], body["max_tokens"]) == (64, 90)
    assert bool(memory) == ("n_keep" in body)
    page.write(**OPTIONS_SENT)
    run = page.http.json(f"/r/{page.state['versions'][0]['run']}")
    assert answered(asker, told["curl"]) == [ids_of(run)]


def test_red_words_keep_their_tokens_in_the_code_that_goes_on_from_them(app, asker, tiny):
    page = Page(Visitor(app)).open("the old king")
    page.write(**OPTIONS_SENT | {"max_new_tokens": "9"})
    page.type(len(page.text), 0, " said")
    at = {"rev": page.state["rev"], "at": len(page.text), "options": OPTIONS_SENT}
    told = page.http.post(f"{page.address}/code", json=at, headers=JSON).get_json()
    page.write(**OPTIONS_SENT)
    run = page.http.json(f"/r/{page.state['versions'][0]['run']}")
    prompt = body_in(told["curl"])["prompt"]
    ids = tiny.encode_prompt(prompt, parse_special=True) if isinstance(prompt, str) else prompt
    assert list(ids) == [token["id"] for token in run["prompt"]["tokens"]]
    assert answered(asker, told["curl"]) == [ids_of(run)]


def test_what_cannot_be_is_a_sentence(app):
    wish = OPTIONS_SENT | {"top_k": "many"}
    answer = Visitor(app).post("/code", json={"options": wish, "memory": ""}, headers=JSON)
    assert answer.status_code == 422
    assert "top_k" in answer.get_json()["problem"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_both_forms_run_as_they_stand(server):
    wish = {"prompt": "the old king's", "model": "tiny", "seed": "5", "max_new_tokens": "9", "samples": "2"}
    run = urllib.request.urlopen(server.url + "/runs", urlencode(wish).encode()).url
    told = json.load(urllib.request.urlopen(f"{run}/code"))
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
        sent = body_in(curl())
        assert (sent["max_tokens"], sent["end_at_sentence"], sent["prompt"]) == (9, 64, "the old king")
        page.click("#as-code summary")
        remembered = page.locator("#memory")
        page.click("[data-do=more]")
        page.click(".memory summary")
        remembered.fill("the young fox")
        unfold(page)
        page.click("#as-code summary")
        until(lambda: "young fox" in curl(), what="the code with what is kept in mind")
        assert body_in(curl())["n_keep"] > 0
        page.click("#as-code summary")
        page.keyboard.press("Escape")
        page.click("#write-on")
        run = window.wait_until_written()
        unfold(page)
        page.click("#as-code summary")
        until(lambda: "wrote last" in page.text_content("#as-code [role=status]"), what="the code of what was written")
        assert body_in(curl())["seed"] == run["options"]["seed"]
