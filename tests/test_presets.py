"""Presets: what they set, what comes before what, and how they are told; the browser's part is in test_preset_chips.py."""

import pytest

from generate import OPTIONS, PRESETS, Refusal, find_preset, parse_sampling, parse_with_preset

LENGTHS = {"max_new_tokens", "min_new_tokens", "samples", "seed"}
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
