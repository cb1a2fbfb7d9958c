"""Presets: what they set, what comes before what, and how they are told; the browser's part is in test_preset_chips.py."""

import re

import pytest
from conftest import ROOT

from generate import OPTIONS, PRESETS, Refusal, check_folder, find_preset, parse_sampling, parse_with_preset
from webapp.views.presets import to_fill_in

LENGTHS = {"max_new_tokens", "min_new_tokens", "end_at_sentence", "n_keep", "samples", "seed"}
SHAPING = {option.name for option in OPTIONS} - LENGTHS
MODELS = {"temperature": 0.3, "top_k": 7, "min_p": 0.2, "max_new_tokens": 50}  # what a model may bring
NAMED = PRESETS[1:]


def named(presets):
    return pytest.mark.parametrize("preset", presets, ids=lambda preset: preset.name)


def test_there_are_five_and_each_has_one_sentence():
    assert [preset.name for preset in PRESETS] == ["model", "careful", "lively", "wild", "steady"]
    for preset in PRESETS:
        assert preset.meaning.count(".") == 1
        assert preset.meaning.endswith(".")
        assert find_preset(preset.name) is preset


@named(NAMED)
def test_a_preset_sets_all_that_shapes_the_choice_and_nothing_else(preset):
    assert set(preset.options) == SHAPING
    sampling = parse_sampling(preset.options | {"seed": 1})
    assert {name: getattr(sampling, name) for name in SHAPING} == preset.options


def test_no_two_presets_are_the_same():
    assert len({tuple(preset.options.items()) for preset in PRESETS}) == len(PRESETS)


@named(NAMED)
def test_what_was_typed_comes_before_the_preset_and_that_before_the_models_defaults(preset):
    found = parse_with_preset({"preset": preset.name, "seed": 1, "temperature": "2", "top_k": " "}, MODELS)
    expected = dict(preset.options) | {"temperature": 2, "max_new_tokens": 50, "seed": 1}
    assert found.as_dict() == parse_sampling(expected).as_dict() | {"preset": preset.name}


@pytest.mark.parametrize("given", [{}, {"preset": None}, {"preset": ""}, {"preset": "model"}])
def test_without_a_preset_and_with_the_models_own_the_models_defaults_hold(given):
    found = parse_with_preset(given | {"seed": 1, "top_k": "3"}, MODELS)
    told = {"preset": "model"} if given.get("preset") else {}
    assert found.as_dict() == parse_sampling({"seed": 1} | MODELS | {"top_k": 3}).as_dict() | told


@pytest.mark.parametrize("name", ["stedy", "Steady", "x" * 5000, 3, True, ["steady"], {}])
def test_another_name_is_refused_by_a_sentence_that_names_them_all(name):
    with pytest.raises(Refusal) as caught:
        parse_with_preset({"preset": name}, {})
    assert caught.value.field == "preset"
    sentence = str(caught.value)
    assert sentence.startswith("preset must be one of these: model, careful, lively, wild, steady; not ")
    assert len(sentence) < 150


def test_what_differs_from_a_preset_is_what_was_asked_for_besides():
    steady, own = find_preset("steady"), find_preset("model")
    asked = parse_with_preset({"preset": "steady", "temperature": 1.1, "max_new_tokens": 9}, MODELS).as_dict()
    assert steady.differing(asked, MODELS) == [("temperature", 1.1)]
    asked = parse_with_preset({"preset": "model", "top_p": 0.5}, MODELS).as_dict()
    assert own.differing(asked, MODELS) == [("top_p", 0.5)]
    assert own.differing({"temperature": 0.3}, MODELS) == [], "a run of long ago does not name every option"


CHECKED = re.compile(r'name="preset" value="(\w+)"[^>]*\bchecked')


def values_of(page: str) -> dict[str, str]:
    """The number fields that are filled in."""
    return dict(re.findall(r'<input name="(\w+)" value="([^"]+)" ', page))


def placeholders_of(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input name="(\w+)"[^>]* placeholder="([^"]*)"', page))


def test_the_form_sends_a_preset_and_the_server_fills_what_was_left_empty(visitor):
    made = visitor.finish(visitor.start(preset="steady", temperature="1.1", top_k="", max_new_tokens=3))
    expected = dict(find_preset("steady").options) | {"temperature": 1.1, "max_new_tokens": 3, "seed": 1}
    assert made["options"] == parse_sampling(expected).as_dict() | {"preset": "steady"}


def test_a_run_without_a_preset_knows_of_none_and_its_page_says_nothing(visitor):
    run = visitor.start(max_new_tokens=3)
    assert visitor.finish(run)["options"] == parse_sampling({"max_new_tokens": 3, "seed": 1}).as_dict()
    assert "<dt>Preset</dt>" not in visitor.get(run).text


def test_a_preset_that_there_is_not_is_refused_and_the_form_stays_as_it_was(visitor):
    sentence = "preset must be one of these: model, careful, lively, wild, steady; not &#39;&lt;b&gt;&#39;."
    sent = visitor.post("/runs", data={"prompt": "A fox", "model": "tiny", "preset": "<b>", "top_k": "9"})
    asked = visitor.get("/?preset=<b>&prompt=A+fox&top_k=9")
    for answer in (sent, asked):
        assert answer.status_code == 422
        assert sentence in answer.text
        assert "A fox</textarea>" in answer.text
        assert values_of(answer.text) == {"top_k": "9"}
        assert CHECKED.findall(answer.text) == ["model"]


def test_an_address_chooses_a_preset_and_empty_fields_say_what_it_sets(visitor):
    page = visitor.get("/?preset=wild&temperature=1.5").text
    assert CHECKED.findall(page) == ["wild"]
    assert values_of(page) == {"temperature": "1.5"}
    wild = find_preset("wild").options
    assert {k: float(v) for k, v in placeholders_of(page).items() if k in wild} == wild
    assert all(f'<small id="says-{preset.name}">{preset.meaning}</small>' in page for preset in PRESETS)
    assert CHECKED.findall(visitor.get("/").text) == ["model"]


def test_a_run_tells_its_preset_and_what_differs_and_hands_both_on(visitor):
    run = visitor.start(preset="steady", temperature="1.1", min_p="0", max_new_tokens=3)
    visitor.finish(run)
    page = visitor.get(run).text
    assert re.sub(r' title="\w+"', "", re.search(r"<dt>Preset</dt><dd>(.*?)</dd>", page)[1]) == (
        'Steady <span class="chip">How bold 1.1</span> <span class="chip">Leave out the far-fetched 0</span>'
    )
    told = re.findall(r"<dt>([^<]+) <code>(\w+)</code></dt><dd>(.*?)</dd>", page)
    assert ("How bold", "temperature", "1.1") in told
    assert ("How many to choose from", "top_k", "off") in told
    edit = visitor.get(f"/?parent={run.rpartition('/')[2]}").text
    assert CHECKED.findall(edit) == ["steady"]
    assert values_of(edit) == {"temperature": "1.1", "min_p": "0.0", "max_new_tokens": "3"}
    before = visitor.json(run)["options"]
    for what in ("retry", "continue"):
        answer = visitor.post(f"{run}/{what}")
        assert visitor.json(answer.headers["Location"])["options"] | {"seed": 1} == before


def test_another_model_writes_beside_with_the_same_values_which_are_not_its_own(visitor):
    for preset, told in (("model", None), ("wild", "wild")):
        run = visitor.start(preset=preset, max_new_tokens=3)
        visitor.finish(run)
        beside = visitor.post(f"{run}/beside", data={"model": "other"}).headers["Location"]
        options = visitor.json("/r/" + beside.rpartition("/")[2])["options"]
        assert options.get("preset") == told
        assert options | {"preset": preset} == visitor.json(run)["options"]


@pytest.mark.parametrize("preset", [None, "model", "careful", "gone"])
def test_a_form_that_brings_a_run_back_asks_for_the_same_whatever_the_model_brings(preset):
    asked = parse_sampling({"seed": 1, "temperature": 0.8, "min_p": 0, "top_k": 3, "stop": ["end"]}).as_dict()
    fields = to_fill_in(asked | ({"preset": preset} if preset else {}), MODELS)
    again = parse_with_preset(fields | {"seed": 1}, MODELS).as_dict()
    assert again == asked | ({"preset": preset} if preset in ("model", "careful") else {})


def test_the_storyteller_brings_the_preset_that_measures_best():
    own, steady = dict(check_folder(ROOT / "models" / "storyteller").defaults), find_preset("steady")
    assert parse_with_preset({"seed": 1}, own) == parse_with_preset({"seed": 1}, own | steady.options)
    assert steady.differing(own, {}) == []
