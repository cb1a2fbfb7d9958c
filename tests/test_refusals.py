"""A refusal: a fixed message and named values, which become a sentence where it is shown."""

import copy
import pickle
from pathlib import Path

import pytest

from generate import Busy, Refusal


def test_values_stand_in_the_message_as_it_asks():
    refusal = Refusal("{name!r:.4} of {path} has {size:,} bytes.", name="abcdef", path=Path("a/b"), size=12345)
    assert str(refusal) == "'abc of a/b has 12,345 bytes."
    assert refusal.problem.message == "{name!r:.4} of {path} has {size:,} bytes."
    assert refusal.problem.values == {"name": "abcdef", "path": Path("a/b"), "size": 12345}
    assert refusal.field is None


def test_a_message_without_values_is_taken_as_it_stands():
    assert str(Refusal("--format must hold {text} once; {} is no {{escape}}.")) == (
        "--format must hold {text} once; {} is no {{escape}}."
    )


def test_braces_in_a_value_are_only_text():
    assert str(Refusal("There is no {path}.", path="{path}")) == "There is no {path}."


def test_a_value_may_be_called_as_what_python_passes():
    assert str(Refusal("{self}, {message}", self=1, message=2)) == "1, 2"


def test_the_reason_of_a_refusal_may_be_another():
    reason = Refusal("it claims {shards} data files", shards=0)
    assert str(Refusal("{file} is damaged: {reason}.", file="a.index", reason=reason)) == (
        "a.index is damaged: it claims 0 data files."
    )


@pytest.mark.parametrize("made", [Refusal("{n} runs", "n", n=1), Refusal("{n} runs", field="n", n=1)])
def test_the_field_at_fault_is_no_value(made):
    assert (made.field, made.problem.values) == ("n", {"n": 1})


@pytest.mark.parametrize("made", [Busy("{n} wait", 7, n=1), Busy("{n} wait", retry_after=7, n=1)])
def test_busy_tells_when_to_come_again(made):
    assert (str(made), made.retry_after, made.problem.values, made.field) == ("1 wait", 7, {"n": 1}, None)
    assert Busy("The line is full.").retry_after == 5


@pytest.mark.parametrize("again", [lambda r: pickle.loads(pickle.dumps(r)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("made", [Refusal("No {name}.", "name", name="a"), Busy("{n} wait", 7, n=1)])
def test_a_copy_says_the_same(made, again):
    assert type(again(made)) is type(made)
    assert vars(again(made)) == vars(made)
    assert str(again(made)) == str(made)
