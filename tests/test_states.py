"""States and finish reasons are stored, sent and compared as the strings they always were."""

import json
import sqlite3

import pytest
from psycopg.adapt import PyFormat, Transformer

from generate import FinishReason, RunState


@pytest.mark.parametrize("name", [*RunState, *FinishReason])
def test_a_name_is_a_string_wherever_it_goes(name):
    plain = name.value
    assert type(plain) is str
    assert json.dumps({"is": name}) == json.dumps({"is": plain})
    assert f"{name}" == str(name) == plain
    assert {name: 1}[plain] == 1
    assert sqlite3.connect(":memory:").execute("select ?, typeof(?)", (name, name)).fetchone() == (plain, "text")
    assert bytes(Transformer().get_dumper(name, PyFormat.TEXT).dump(name)) == plain.encode()


def test_a_stored_reason_is_read_back():
    assert FinishReason("unwatched") is FinishReason.UNWATCHED
    assert max(map(len, [*FinishReason])) <= 10  # the column's width
