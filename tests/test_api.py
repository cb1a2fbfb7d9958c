"""OpenAI's completions: what is answered, whole and in pieces, and that its numbers are the model's."""

import json
import re

import numpy as np
import pytest
from conftest import Visitor
from waiting import until

from generate import find_model
from webapp.routes.suggestions import MOST_TURNS
from webapp.sheets.suggestions import COUNT

CHINESE = "从前有一只狐狸"


class Asker:
    """A client of the API on this machine."""

    def __init__(self, app):
        self.client = app.test_client()

    def post(self, address="/v1/completions", **body):
        return self.client.post(address, json={"model": "tiny", "seed": 1} | body, buffered=True)

    def ask(self, **body) -> dict:
        answer = self.post(**body)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def choice(self, **body) -> dict:
        return self.ask(**body)["choices"][0]

    def stream(self, **body) -> list[dict]:
        """The chunks of a streamed answer, which must end with [DONE]."""
        blocks = self.post(stream=True, **body).text.split("\n\n")
        assert blocks[-2:] == ["data: [DONE]", ""]
        return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]

    def error(self, status=400, **body) -> dict:
        answer = self.post(**body)
        assert answer.status_code == status, answer.text
        error = answer.get_json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@pytest.fixture
def asker(app) -> Asker:
    return Asker(app)


def reference(models, ids: list[int], name="tiny") -> np.ndarray:
    """The log-probabilities that `transformers` gives at each place of a text, in float32; shape [N, V]."""
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(models / name).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()


def joined(chunks: list[dict], index=0) -> str:
    return "".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == index)


# What is answered


def test_an_answer_has_the_form_that_openai_gives_it(asker):
    answer = asker.ask(prompt="the old king", max_tokens=5)
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert isinstance(answer["created"], int)
    assert answer["model"] == "tiny"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    (choice,) = answer["choices"]
    assert choice == {"index": 0, "text": choice["text"], "logprobs": None, "finish_reason": "length"}


def test_the_fingerprint_names_the_weights_and_the_precision(asker, tiny):
    assert asker.ask(prompt="the")["system_fingerprint"] == f"{tiny.fingerprint()}-float32"


def test_it_says_what_the_engine_says_with_that_seed(asker, writer):
    mine = asker.choice(prompt="the old king", max_tokens=12, return_token_ids=True)
    assert mine["token_ids"] == writer.ids("the old king", max_new_tokens=12, temperature=1)[0]


def test_it_says_what_a_sample_of_a_run_said(asker, writer):
    third = writer.ids("the old king", max_new_tokens=12, temperature=1, samples=3)[2]
    mine = asker.choice(prompt="the old king", max_tokens=12, first_sample=2, return_token_ids=True)
    assert mine["token_ids"] == third


@pytest.mark.parametrize("number", [32, 3 * MOST_TURNS + COUNT - 1])
def test_suggestions_are_counted_on_and_said_by_their_numbers(asker, writer, number):
    mine = asker.choice(prompt="the old king", max_tokens=12, first_sample=number, return_token_ids=True)
    assert mine["token_ids"] == writer.ids("the old king", max_new_tokens=12, temperature=1, first_sample=number)[0]


def test_openai_s_defaults_hold_where_ours_are_others(asker, writer):
    mine = asker.choice(prompt="the", return_token_ids=True)
    assert mine["token_ids"] == writer.ids("the", max_new_tokens=16, temperature=1, top_k=0)[0]


def test_a_preset_brings_ours_along(asker, writer):
    mine = asker.choice(prompt="the", preset="steady", return_token_ids=True)
    steady = {"temperature": 0.8, "min_p": 0.05, "repetition_penalty": 1.1, "dry_multiplier": 0.8, "dry_range": 4096}
    assert mine["token_ids"] == writer.ids("the", max_new_tokens=16, **steady)[0]


def test_nulls_are_defaults(asker):
    names = "suffix max_tokens temperature top_p n stream logprobs echo stop presence_penalty frequency_penalty best_of"
    nulls = dict.fromkeys([*names.split(), "logit_bias", "user", "stream_options", "top_k", "dry_base", "store"])
    assert asker.choice(prompt="the", **nulls) == asker.choice(prompt="the")


def test_no_prompt_begins_as_a_text_does(asker):
    assert asker.choice(return_token_ids=True)["prompt_token_ids"] == [0]
    assert asker.choice(prompt="", return_token_ids=True)["prompt_token_ids"] == [0]


def test_a_prompt_comes_in_four_forms(asker, tiny):
    ids = tiny.encode_prompt("the old fox")
    one = asker.choice(prompt="the old fox")
    assert asker.choice(prompt=ids) == one
    assert asker.choice(prompt=[ids]) == one
    assert asker.choice(prompt=["the old fox"]) == one
    both = asker.ask(prompt=["the old fox", "one two"])["choices"]
    assert [choice["index"] for choice in both] == [0, 1]
    assert both[0] == one
    assert both[1]["text"] == asker.choice(prompt="one two")["text"]


def test_ids_are_taken_as_they_are_and_never_encoded_again(asker, tiny):
    ids = [*tiny.encode_prompt("the"), *[tiny.tokenizer.encode(letter)[0] for letter in "the"]]
    assert tiny.encode_prompt("thethe") != ids
    answer = asker.choice(prompt=ids, echo=True, max_tokens=0, logprobs=0, return_token_ids=True)
    assert answer["prompt_token_ids"] == ids
    assert len(answer["logprobs"]["tokens"]) == len(ids)


def test_the_end_token_can_be_named_in_a_prompt_or_kept_text(asker):
    named = asker.choice(prompt="<|endoftext|>the", return_token_ids=True)["prompt_token_ids"]
    text = asker.choice(prompt="<|endoftext|>the", return_token_ids=True, parse_special=False)["prompt_token_ids"]
    assert named[0] == 0
    assert len(named) == 2
    assert 0 not in text


def test_several_choices_are_those_of_one_run(asker, writer):
    answer = asker.ask(prompt="the old king", n=4, max_tokens=6, return_token_ids=True)
    expected = writer.ids("the old king", max_new_tokens=6, samples=4, temperature=1)
    assert [choice["token_ids"] for choice in answer["choices"]] == expected
    assert answer["usage"]["completion_tokens"] == 24


def test_a_seed_says_the_same_whatever_stands_beside_it(asker):
    alone = asker.choice(prompt="one two", max_tokens=10)["text"]
    company = asker.ask(prompt=["the", "one two", "king"], n=3, max_tokens=10)["choices"]
    assert company[3]["text"] == alone


def test_what_is_told_of_tokens_changes_none_of_them(asker):
    wish = {"prompt": "the old king", "max_tokens": 20, "n": 3, "return_token_ids": True}
    plain, told = asker.ask(**wish), asker.ask(logprobs=10, **wish)
    assert [c["token_ids"] for c in plain["choices"]] == [c["token_ids"] for c in told["choices"]]


def test_a_seed_that_was_drawn_is_told_and_writes_the_same_again(asker):
    drawn = asker.ask(prompt="the", seed=None, max_tokens=10)
    again = asker.ask(prompt="the", seed=drawn["rubric"]["seed"], max_tokens=10)
    assert again["choices"] == drawn["choices"]
    assert {asker.ask(seed=-1, max_tokens=0)["rubric"]["seed"] for _ in range(3)} != {1}


def test_best_of_answers_the_likeliest(asker):
    every = asker.ask(prompt="the", n=6, max_tokens=8, logprobs=0)["choices"]
    best = asker.ask(prompt="the", n=2, best_of=6, max_tokens=8, logprobs=0)
    means = sorted(every, key=lambda choice: -np.mean(choice["logprobs"]["token_logprobs"]))
    assert [choice["text"] for choice in best["choices"]] == [choice["text"] for choice in means[:2]]
    assert best["usage"]["completion_tokens"] == 48


def test_a_stop_string_ends_a_text_and_is_not_shown(asker):
    whole = asker.choice(prompt="the old king", max_tokens=30)["text"]
    stop = " old"
    assert stop in whole
    ended = asker.choice(prompt="the old king", max_tokens=30, stop=[stop], logprobs=1)
    assert ended["text"] == whole[: whole.index(stop)]
    assert ended["finish_reason"] == "stop"
    assert asker.choice(prompt="the old king", max_tokens=30, stop=stop)["text"] == ended["text"]
    assert len(ended["logprobs"]["tokens"]) < 30


def test_a_stop_string_is_taken_to_the_letter(asker, tiny):
    (line,) = tiny.tokenizer.encode("\n")
    (backslash,) = tiny.tokenizer.encode("\\")
    for token, stop, ends in ((line, "\n", True), (line, "\\n", False), (backslash, "\\", True)):
        answer = asker.choice(prompt="the", max_tokens=4, logit_bias={str(token): 100}, stop=stop)
        assert (answer["finish_reason"] == "stop") is ends


def test_the_end_token_ends_a_text_and_has_an_entry_of_its_own(asker):
    ended = asker.choice(prompt="the", logit_bias={"0": 100}, logprobs=2, return_token_ids=True)
    assert (ended["text"], ended["finish_reason"], ended["token_ids"]) == ("", "stop", [0])
    assert ended["logprobs"]["tokens"] == ["<|endoftext|>"]
    assert len(ended["logprobs"]["top_logprobs"][0]) == 3
    assert (
        len(asker.choice(prompt="the", logit_bias={"0": 100}, ignore_eos=True, return_token_ids=True)["token_ids"])
        == 16
    )


def test_biases_name_tokens_by_their_ids(asker):
    assert (
        asker.choice(prompt="the", logit_bias={"37": 100}, max_tokens=3, return_token_ids=True)["token_ids"] == [37] * 3
    )


def test_biases_may_be_llama_cpp_s_pairs(asker):
    pairs = asker.choice(prompt="the", logit_bias=[[37, 100]], max_tokens=3)
    assert pairs == asker.choice(prompt="the", logit_bias={"37": 100}, max_tokens=3)
    assert asker.choice(prompt="the", logit_bias=[]) == asker.choice(prompt="the")


def test_what_is_off_elsewhere_is_off_here(asker):
    assert asker.choice(prompt="the", top_k=-1) == asker.choice(prompt="the", top_k=0)


def test_what_is_not_known_is_named_and_not_half_applied(asker):
    answer = asker.ask(prompt="the", mirostat=2, typical_p=0.5)
    assert answer["warnings"] == [
        "mirostat is not known here and had no effect.",
        "typical_p is not known here and had no effect.",
    ]
    assert answer["choices"] == asker.ask(prompt="the")["choices"]
    assert "warnings" not in asker.ask(prompt="the", user="somebody")


def test_a_suffix_is_refused_with_the_reason(asker):
    error = asker.error(prompt="the", suffix="end")
    assert error["param"] == "suffix"
    assert "fill a gap" in error["message"]


def test_a_model_that_is_not_here_is_a_404_that_names_those_that_are(asker):
    error = asker.error(404, model="nobody")
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "tiny" in error["message"]


def test_a_request_has_at_most_32_texts_written_at_once(asker):
    assert len(asker.ask(prompt="the", n=32, max_tokens=1)["choices"]) == 32
    assert asker.error(prompt=["the", "a"], n=17)["param"] == "n"
    assert asker.error(prompt=["the"] * 33)["param"] == "prompt"


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data; boundary=x"],
)
def test_a_body_is_json_whatever_type_it_is_said_to_have(asker, kind):
    body = json.dumps({"model": "tiny", "prompt": "the & king=1", "max_tokens": 1, "seed": 1, "echo": True})
    answer = asker.client.post("/v1/completions", data=body, headers={"Content-Type": kind}, buffered=True)
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["choices"][0]["text"].startswith("the & king=1")


# Log-probabilities


@pytest.mark.parametrize("most", [0, 1])
def test_a_text_is_scored_exactly(asker, models, most):
    ids = list(np.random.default_rng(5).integers(1, 300, 40))
    ids = [int(index) for index in ids]
    told = asker.choice(prompt=[ids], max_tokens=most, logprobs=1, echo=True, temperature=0)["logprobs"]
    expected = reference(models, ids)
    assert len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(ids) + most
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    for place in range(1, len(ids)):
        assert told["token_logprobs"][place] == pytest.approx(expected[place - 1, ids[place]], abs=1e-5)
        likeliest = max(told["top_logprobs"][place].values())
        assert likeliest == pytest.approx(expected[place - 1].max(), abs=1e-5)


@pytest.mark.parametrize(("most", "count"), [(0, 65), (1, 65), (1, 64), (0, 64)])
def test_a_text_of_a_whole_window_and_one_token_is_scored_without_sliding(asker, models, most, count):
    ids = [1 + (7 * place) % 290 for place in range(count)]
    answer = asker.ask(prompt=[ids], max_tokens=most, logprobs=1, echo=True, temperature=0)
    told = answer["choices"][0]["logprobs"]["token_logprobs"]
    expected = reference(models, ids[:64])
    assert len(told) == count + most
    assert told[1:count] == pytest.approx([expected[p - 1, ids[p]] for p in range(1, count)], abs=1e-5)
    if most and count == 65:
        after = reference(models, ids[1:])[-1]
        assert told[-1] == pytest.approx(after.max(), abs=1e-5)
        assert "last 64 tokens" in answer["warnings"][0]
    else:
        assert "warnings" not in answer


@pytest.mark.parametrize(("most", "count", "limit"), [(1, 66, 65), (0, 66, 65), (2, 65, 64)])
def test_what_the_window_does_not_hold_is_a_400_with_both_numbers(asker, most, count, limit):
    error = asker.error(prompt=[[5] * count], max_tokens=most, logprobs=1, echo=True)
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")
    assert str(count) in error["message"]
    assert str(limit) in error["message"]


def test_a_longer_prompt_may_be_gone_on_from(asker):
    assert asker.ask(prompt=[[5] * 100], max_tokens=2, logprobs=1)["usage"]["prompt_tokens"] == 100


def test_the_same_number_has_the_same_digits_in_both_places(asker):
    ids = [1 + (11 * place) % 290 for place in range(60)]
    text = asker.post(prompt=[ids], max_tokens=1, logprobs=10, echo=True, temperature=0).text
    told = json.loads(text, parse_float=str)["choices"][0]["logprobs"]
    assert all(
        own in top.values() for own, top in zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True)
    )


def test_whether_a_text_is_the_likeliest_can_be_told_by_equality(asker):
    written = asker.choice(prompt="the", max_tokens=20, temperature=0, return_token_ids=True)
    ids = [*written["prompt_token_ids"], *written["token_ids"]]
    told = asker.choice(prompt=[ids], max_tokens=1, logprobs=1, echo=True, temperature=0)["logprobs"]
    places = range(1, len(ids))
    assert all(told["token_logprobs"][place] == max(told["top_logprobs"][place].values()) for place in places)


def test_alternatives_are_as_many_as_asked_for_and_the_token_itself(asker):
    for count in (0, 1, 5, 10):
        for top in asker.choice(prompt="the", logprobs=count, max_tokens=5)["logprobs"]["top_logprobs"]:
            assert len(top) in (max(count, 1), count + 1)


def test_half_characters_are_spelled_by_their_bytes_and_texts_hold_whole_ones(asker, tiny):
    ids = tiny.encode_prompt(CHINESE)
    told = asker.choice(prompt=[ids], max_tokens=0, echo=True, logprobs=0)
    halves = [token for token in told["logprobs"]["tokens"] if token.startswith("\\x")]
    assert told["text"] == CHINESE
    assert halves
    spelled = "".join(told["logprobs"]["tokens"]).encode()
    spelled = re.sub(rb"\\x(..)", lambda byte: bytes.fromhex(byte[1].decode()), spelled)
    assert spelled.decode() == CHINESE


def test_a_half_character_at_the_end_of_a_prompt_is_made_whole_by_what_follows(asker, tiny):
    ids = tiny.encode_prompt(CHINESE)
    cut = next(
        n
        for n in range(len(ids) - 1, 0, -1)
        if "\ufffd" in tiny.tokenizer.vocabulary.bytes_of(ids[:n]).decode(errors="replace")
    )
    wish = {"prompt": [ids[:cut]], "max_tokens": 1, "logit_bias": {str(ids[cut]): 100}}
    alone, echoed = asker.choice(**wish)["text"], asker.choice(echo=True, **wish)["text"]
    whole = tiny.tokenizer.vocabulary.bytes_of(ids[: cut + 1]).decode("utf-8", "ignore")
    assert echoed == whole
    assert whole.endswith(alone)


def test_tokens_are_spelled_by_their_ids_where_that_is_asked_for(asker):
    told = asker.choice(prompt="the", logprobs=3, max_tokens=4, return_token_ids=True, return_tokens_as_token_ids=True)
    assert told["logprobs"]["tokens"] == [f"token_id:{index}" for index in told["token_ids"]]
    assert all(name.startswith("token_id:") for top in told["logprobs"]["top_logprobs"] for name in top)


def test_offsets_count_the_characters_of_the_text(asker):
    told = asker.choice(prompt="the old king", echo=True, logprobs=0, max_tokens=0)
    assert told["logprobs"]["text_offset"] == [0, 3, 7]


def test_prompt_logprobs_tell_of_the_prompt_by_ids(asker):
    wish = {"prompt": "the old king", "max_tokens": 1, "temperature": 0}
    told = asker.choice(prompt_logprobs=2, return_token_ids=True, **wish)
    echoed = asker.choice(logprobs=2, echo=True, **wish)["logprobs"]
    assert told["prompt_logprobs"][0] is None
    for place, index in enumerate(told["prompt_token_ids"][1:], 1):
        entry = told["prompt_logprobs"][place][str(index)]
        assert entry["logprob"] == echoed["token_logprobs"][place]
        assert entry["rank"] >= 1
    assert told["logprobs"] is None


# In pieces


@pytest.mark.parametrize("wish", [{}, {"logprobs": 3}, {"echo": True}, {"echo": True, "logprobs": 2}, {"n": 3}])
def test_a_stream_says_what_the_whole_answer_says(asker, wish):
    wish |= {"prompt": "the old king", "max_tokens": 25, "stop": ["zq"]}
    whole, chunks = asker.ask(**wish), asker.stream(**wish)
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert all(chunk["object"] == "text_completion" for chunk in chunks)
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
        assert mine[-1]["finish_reason"]
        for name in choice["logprobs"] or ():
            assert [entry for c in mine if c["logprobs"] for entry in c["logprobs"][name]] == choice["logprobs"][name]


def test_with_log_probabilities_one_chunk_is_one_token(asker):
    chunks = asker.stream(prompt="the old king", max_tokens=20, logprobs=10)
    counts = [len(c["logprobs"]["tokens"]) for chunk in chunks for c in chunk["choices"] if c["logprobs"]]
    assert counts == [1] * 20


def test_chunks_hold_whole_characters(asker, tiny):
    ids = tiny.encode_prompt(CHINESE)
    biases = dict.fromkeys(map(str, ids[1:6]), 60)
    wish = {"prompt": [ids[:1]], "max_tokens": 30, "logit_bias": biases, "temperature": 1}
    for more in ({}, {"logprobs": 1}):
        whole, chunks = asker.choice(**wish, **more), asker.stream(**wish, **more)
        assert joined(chunks) == whole["text"]


def test_the_last_chunk_counts_the_tokens_where_that_is_asked_for(asker):
    wish = {"prompt": "the old king", "max_tokens": 5}
    chunks = asker.stream(stream_options={"include_usage": True}, **wish)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert all("usage" not in chunk for chunk in asker.stream(**wish))


def test_a_streamed_answer_tells_ids_too(asker):
    whole = asker.choice(prompt="the old king", max_tokens=12, return_token_ids=True)
    chunks = asker.stream(prompt="the old king", max_tokens=12, return_token_ids=True)
    assert [i for chunk in chunks for c in chunk["choices"] for i in c["token_ids"]] == whole["token_ids"]
    told = [c["prompt_token_ids"] for chunk in chunks for c in chunk["choices"] if "prompt_token_ids" in c]
    assert told == [whole["prompt_token_ids"]]


def test_a_stream_warns_in_its_first_chunk(asker):
    chunks = asker.stream(prompt="the", mirostat=2)
    assert chunks[0]["warnings"] == ["mirostat is not known here and had no effect."]


# Kept, and not


def test_nothing_is_kept_unless_it_is_asked_for(asker, app):
    from webapp.runs.tables import Run, db

    def count():
        with app.app_context():
            return db.session.query(Run).count()

    before = count()
    asker.ask(prompt="the", max_tokens=3)
    asker.stream(prompt="the", max_tokens=3)
    assert count() == before
    assert "url" not in asker.ask(prompt="the")["rubric"]
    assert count() == before


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_kept_is_a_run_with_a_page(asker, app, stream):
    wish = {"prompt": "the old king", "max_tokens": 10, "store": True}
    told = asker.stream(**wish)[0] if stream else asker.ask(**wish)
    page = told["rubric"]["url"].removeprefix("http://localhost")
    visitor = Visitor(app)
    assert visitor.get(page).status_code == 200
    run = until(lambda: (found := visitor.json(page))["samples"][0]["finish_reason"] and found, what="the run's end")
    answered = asker.choice(prompt="the old king", max_tokens=10)["text"]
    assert run["samples"][0]["text"].removesuffix("\ufffd") == answered  # a page shows half a character, too


def test_each_prompt_that_is_kept_has_a_link(asker):
    urls = asker.ask(prompt=["the", "one"], store=True, max_tokens=2)["rubric"]["urls"]
    assert len(set(urls)) == 2


# Beside completions


def test_models_are_listed_with_their_windows(asker):
    listed = asker.client.get("/v1/models").get_json()
    assert listed["object"] == "list"
    tiny = next(model for model in listed["data"] if model["id"] == "tiny")
    assert (tiny["object"], tiny["max_model_len"]) == ("model", 64)
    assert asker.client.get("/v1/models/tiny").get_json() == tiny
    assert asker.client.get("/v1/models/nobody").status_code == 404


def test_text_goes_to_ids_and_back(asker, models):
    folder = find_model(models, "tiny")
    ids = asker.post("/tokenize", prompt=CHINESE, add_special_tokens=False).get_json()["tokens"]
    assert ids == folder.tokenizer.encode(CHINESE)
    assert asker.post("/detokenize", tokens=ids).get_json() == {"prompt": CHINESE}


def test_the_end_token_goes_there_and_back_by_its_name(asker):
    info = asker.client.get("/tokenizer_info?model=tiny").get_json()
    assert info["eos_token"] == info["bos_token"] == "<|endoftext|>"
    assert asker.post("/tokenize", prompt=info["eos_token"]).get_json()["tokens"] == [0]
    assert asker.post("/detokenize", tokens=[0]).get_json() == {"prompt": "<|endoftext|>"}


def test_an_address_that_is_not_there_is_an_error_in_openai_s_form(asker):
    answer = asker.client.get("/v1/engines")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "not_found"


def test_every_answer_has_a_name(asker):
    names = {asker.post(prompt="the", **more).headers["x-request-id"] for more in ({}, {"n": 0}, {"stream": True})}
    assert len(names) == 3
