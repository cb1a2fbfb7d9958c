"""What a person may ask for: every option and setting has limits, and a refusal names the option, the limit, the value."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generate import LISTS, OPTIONS, SETTINGS, Refusal, Sampling, Vocabulary, parse_sampling, read_settings
from generate.sampling.lists import parse_biases, parse_breakers, parse_stop, token_biases
from generate.text.escapes import unescape

WHOLE = [option for option in OPTIONS if option.kind is int]
FRACTION = [option for option in OPTIONS if option.kind is float]

JUNK = [
    "nan", "NaN", "inf", "-inf", "Infinity", math.nan, math.inf, -math.inf, 1e308, "1e400", 10**400, "9" * 5000,
    "many", "1,5", "0x10", "1 2", "--1", "½", "5\0", "\ud800", True, False, [], [1], {}, {"a": 1}, b"1", 1j, object(),
    "é" * 99,
]  # fmt: skip


def named(options):
    return pytest.mark.parametrize("option", options, ids=lambda option: option.name)


def refused(name: str, value: object) -> str:
    with pytest.raises(Refusal) as caught:
        parse_sampling({name: value})
    assert caught.value.field == name
    return str(caught.value)


@named(OPTIONS)
def test_both_limits_are_taken_as_number_and_as_text(option):
    for limit in (option.low, option.high):
        for typed in (limit, option.kind(limit), str(limit), f" {limit}\t\n"):
            value = getattr(parse_sampling({option.name: typed}), option.name)
            assert value == limit
            assert type(value) is option.kind


@named(OPTIONS)
def test_past_both_limits_the_refusal_names_option_limits_and_value(option):
    step = 1 if option.kind is int else 0.001
    for beyond in (option.low - step, option.high + step, -(2**40), 2**70):
        for typed in (beyond, str(beyond)):
            sentence = refused(option.name, typed)
            assert sentence.startswith(f"{option.name} must be a")
            assert f" from {option.low:,.10g} to {option.high:,.10g}, not {str(beyond)!r}." in sentence


@named(OPTIONS)
def test_what_is_no_number_within_the_limits_is_refused(option):
    for junk in JUNK:
        sentence = refused(option.name, junk)
        assert re.match(rf"{option.name} must be a (whole )?number from -?[\d,.]+ to [\d,.]+, not .+\.$", sentence)
        assert len(sentence) < 150
        assert sentence.isprintable()


def test_a_number_of_thousands_of_digits_is_refused_though_python_will_not_print_it():
    for option in OPTIONS:
        assert f" to {option.high:,.10g}, not " in refused(option.name, 10**5000)
    with pytest.raises(Refusal, match="stop must be a list of strings"):
        parse_stop([10**5000])


@named(WHOLE)
@pytest.mark.parametrize("junk", ["1e3", "1.0", "1.5", 1.5, 1e-9, "", " "])
def test_a_whole_number_is_not_guessed_from_a_fraction_or_an_exponent(option, junk):
    if isinstance(junk, str) and not junk.strip():
        parse_sampling({option.name: junk})  # blank is left out, not wrong
    else:
        assert "a whole number from" in refused(option.name, junk)


@named(FRACTION)
def test_fractions_may_be_written_with_an_exponent(option):
    assert getattr(parse_sampling({option.name: f"{10 * option.high:g}e-1"}), option.name) == option.high


@given(st.sampled_from(OPTIONS), st.one_of(st.text(), st.floats(), st.integers(), st.recursive(st.none(), st.lists)))
def test_whatever_is_given_comes_out_within_the_limits_or_is_refused(option, value):
    try:
        number = getattr(parse_sampling({option.name: value}), option.name)
    except Refusal:
        return
    assert type(number) is option.kind
    assert option.low <= number <= option.high


def test_a_blank_seed_draws_another_each_time():
    seeds = {
        parse_sampling(given).seed for given in [{}, {"seed": None}, {"seed": ""}, {"seed": "  "}] for _ in range(25)
    }
    assert len(seeds) > 95
    assert parse_sampling({"seed": 0}).seed == 0
    assert parse_sampling({}, {"seed": 5}).seed != parse_sampling({}, {"seed": 5}).seed


def test_what_is_left_out_takes_the_models_defaults_then_ours():
    defaults = {"temperature": 0.3, "top_k": 7}
    assert parse_sampling({"seed": 1}) == Sampling(seed=1)
    assert parse_sampling({"seed": 1, "top_k": " ", "top_p": None}, defaults) == Sampling(seed=1, **defaults)
    assert parse_sampling({"seed": 1, "top_k": 0, "temperature": "0"}, defaults) == Sampling(
        seed=1, temperature=0, top_k=0
    )
    tables = OPTIONS + LISTS
    assert [getattr(Sampling(), option.name) for option in tables] == [option.default for option in tables]


def test_every_option_has_a_plain_name_of_its_own_that_is_no_field_s_name():
    titles = [option.title for option in OPTIONS + LISTS]
    assert len(set(titles)) == len(titles)
    assert all(title[0].isupper() and "_" not in title and len(title) < 35 for title in titles), titles


def test_an_option_that_is_off_acts_on_nothing_and_says_at_which_number_that_is():
    for option in OPTIONS:
        assert (option.off is None) == ("is off" not in option.meaning), option.name
        assert option.off is None or f"{option.off:g} is off" in option.meaning, option.name
        assert option.off is None or option.parse(option.off) == option.off


def test_options_come_back_as_plain_values_that_parse_to_the_same():
    sampling = parse_sampling({"temperature": "0.5", "seed": "4294967295", "stop": ["a\\n", "\n"], "samples": 32})
    assert list(sampling.as_dict()) == [option.name for option in OPTIONS + LISTS]
    assert parse_sampling(sampling.as_dict()) == sampling


def test_typed_stop_strings_stand_on_lines_and_may_hold_escapes():
    assert parse_stop("END\r\n\\n\\n\n\n a\\tb \r\n\\\\n\nEND\n") == ("END", "\n\n", " a\tb ", "\\n")
    assert parse_stop(r"\x\q\\\n") == ("\\x\\q\\\n",)
    assert parse_stop("从前\n🦊") == ("从前", "🦊")


def test_listed_stop_strings_are_taken_as_they_are():
    assert parse_stop(["\\n", "a\nb", "", "\\n"]) == ("\\n", "a\nb")
    assert parse_stop(("a",)) == ("a",)
    assert [parse_stop(nothing) for nothing in (None, "", "\n\r\n", [], ())] == [()] * 5


@given(st.text(alphabet="\\nt\n\tab").filter(lambda text: text))
def test_escaping_backslash_newline_and_tab_is_undone(text):
    typed = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    assert unescape(typed) == text
    assert parse_stop(typed) == (text,)


@pytest.mark.parametrize("junk", [5, 0, 1.5, True, False, b"END", {}, {"a": "b"}, [1], ["a", None], [["a"]], [b"a"]])
def test_stop_strings_that_are_no_strings_are_refused(junk):
    with pytest.raises(Refusal, match="stop must be a list of strings, not ") as caught:
        parse_stop(junk)
    assert caught.value.field == "stop"


def test_too_many_or_too_long_stop_strings_are_refused():
    eight = [f"stop {n}" for n in range(8)]
    assert parse_stop([*eight, "stop 3", ""]) == tuple(eight)
    assert parse_stop("\n".join(eight)) == tuple(eight)
    with pytest.raises(Refusal, match="stop takes at most 8 strings, one on a line, not 9"):
        parse_stop([*eight, "one more"])
    assert parse_stop(["狐" * 66 + "ab"]) == ("狐" * 66 + "ab",)
    with pytest.raises(Refusal, match="stop strings have at most 200 bytes; one of yours has 201"):
        parse_stop(["a", "狐" * 67])


@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=9))
def test_every_stop_string_that_is_taken_can_be_written_as_utf_8(stops):
    try:
        taken = parse_stop(stops)
    except Refusal:
        return
    assert b"" not in [stop.encode() for stop in taken]


def test_blank_breakers_are_the_usual_ones_and_an_empty_list_is_none():
    usual = ("\n", ":", '"', "*")
    assert [parse_breakers(blank) for blank in (None, "", " \r\n")] == [usual] * 3
    assert [parse_breakers(none) for none in ([], (), [""])] == [()] * 3
    assert parse_breakers("\\n\n. \n“") == ("\n", ". ", "“")
    with pytest.raises(Refusal, match="dry_sequence_breakers takes at most 32 strings, one on a line, not 33"):
        parse_breakers([str(n) for n in range(33)])


def test_biases_are_lines_or_a_mapping_and_come_back_as_they_are():
    assert parse_biases("horse = -5\r\n50256=1e2\n\\n = .5\n a  =+3") == (
        "horse = -5",
        "50256 = 100",
        "\n = 0.5",
        "a = 3",
    )
    assert parse_biases({"50256": -100, 7: 0.25}) == ("50256 = -100", "7 = 0.25")
    assert parse_biases(["= = 1", "a = b = 2"]) == ("= = 1", "a = b = 2")
    assert parse_biases("a = 1\na = 2") == ("a = 2",)
    for typed in ("horse = -5\n\\n = 7", {"1": 1.5}, [f"{'x' * 150} = 1e1"]):
        lines = parse_biases(typed)
        assert parse_biases(list(lines)) == lines
    assert len(parse_biases([f"{n} = 1" for n in range(300)])) == 300


@pytest.mark.parametrize(
    ("junk", "sentence"),
    [
        ("horse", "logit_bias has lines like: horse = -5, not 'horse'."),
        ("= 5", "logit_bias has lines like: horse = -5, not '= 5'."),
        (["x" * 151 + " = 1"], f"logit_bias has lines like: horse = -5, not '{'x' * 39}…'."),
        ("horse = much", "logit_bias must give 'horse' a number from -100 to 100, not 'much'."),
        ("a = nan", "logit_bias must give 'a' a number from -100 to 100, not 'nan'."),
        ({"a": 100.5}, "logit_bias must give 'a' a number from -100 to 100, not '100.5'."),
        ({"a": None}, "logit_bias must give 'a' a number from -100 to 100, not 'None'."),
        ({"a": 10**50}, "logit_bias must give 'a' a number from -100 to 100, not 'a number of more than 40 digits'."),
        ([1], "logit_bias must be a list of strings, not list."),
        (5, "logit_bias must be a list of strings, not int."),
        ([f"{n} = 1" for n in range(301)], "logit_bias takes at most 300 strings, one on a line, not 301."),
    ],
)
def test_a_bias_that_cannot_be_meant_is_refused_in_one_sentence(junk, sentence):
    with pytest.raises(Refusal) as caught:
        parse_sampling({"logit_bias": junk})
    assert (str(caught.value), caught.value.field) == (sentence, "logit_bias")


def test_a_bias_of_a_word_is_that_of_its_tokens_with_and_without_a_space_before():
    vocabulary = Vocabulary([b"", b"horse", b" horse", b" cow", b"7", b"\n", b"  horse"], [0])
    assert token_biases(("horse = -5", "cow = 2", "6 = 1", "\n = 3"), vocabulary) == {1: -5, 2: -5, 3: 2, 6: 1, 5: 3}
    assert token_biases(("2 = 9", "horse = -5"), vocabulary) == {2: 9, 1: -5}
    with pytest.raises(Refusal, match="logit_bias names 'dog', which is not one token of this model"):
        token_biases(("horse = 1", "dog = 1"), vocabulary)
    with pytest.raises(Refusal, match="logit_bias names token 7, and this model has 7 of them, from 0 on"):
        token_biases(("7 = 1",), vocabulary)


def test_settings_have_the_defaults_of_the_table():
    settings = read_settings({})
    assert list(settings) == [setting.name for setting in SETTINGS]
    assert {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in settings.items()} == {
        s.name: s.default for s in SETTINGS
    }
    assert read_settings(dict.fromkeys(settings, "  ")) == settings
    assert read_settings({"UNRELATED": "x"}) == settings


def test_settings_are_read_as_what_they_mean():
    given = {"RUBRIC_DEVICE": "cpu", "PORT": " 65535 ", "RUBRIC_MAX_ROWS": "1024", "RUBRIC_MODELS": "/some where "}
    expected = {"RUBRIC_DEVICE": "cpu", "PORT": 65535, "RUBRIC_MAX_ROWS": 1024, "RUBRIC_MODELS": "/some where"}
    assert read_settings(given) == read_settings({}) | expected


@pytest.mark.parametrize(("name", "value", "reason"), [
    ("RUBRIC_DEVICE", "gpu", "must be one of auto, cpu, cuda"),
    ("RUBRIC_DEVICE", "CUDA", "must be one of auto, cpu, cuda"),
    ("RUBRIC_PRECISION", "float16", "must be one of auto, float32, bfloat16"),
    ("RUBRIC_THREADS", "-1", "must be from 0 to 1024"),
    ("RUBRIC_MAX_ROWS", "0", "must be from 1 to 1024"),
    ("RUBRIC_MAX_WAITING", "100001", "must be from 1 to 100000"),
    ("RUBRIC_MAX_PROMPT", "1e5", ""),
    ("RUBRIC_MAX_STREAMS", "many", ""),
    ("PORT", "0", "must be from 1 to 65535"),
    ("PORT", "65536", "must be from 1 to 65535"),
    ("PORT", "80.5", ""),
    ("PORT", "9" * 5000, ""),
])  # fmt: skip
def test_a_wrong_setting_is_refused_by_the_name_of_its_variable(name, value, reason):
    with pytest.raises(Refusal) as caught:
        read_settings({name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}: {reason}")
    assert caught.value.field == name
