"""kill -9 of one of two replicas loses no run: each ends with as many tokens as it was asked for."""

from contextlib import ExitStack

import pytest
from browser import serving
from conftest import started
from replicas import killed_in_the_middle

from generate import RemoteEngine

RUNS, TOKENS, AFTER = 8, 1500, 40


@pytest.mark.long
def test_of_two_rubrics_one_is_killed_and_the_other_says_what_it_would_have_said(tmp_path, models, tiny, writer):
    with ExitStack() as open_ones:
        servers = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            servers.append(open_ones.enter_context(serving(tmp_path / name, models, RUBRIC_MODEL="tiny")))
        engine = started(RemoteEngine(models, [server.url for server in servers]).start())
        open_ones.callback(engine.close)
        said, told = killed_in_the_middle(engine, tiny, servers[0].kill, RUNS, TOKENS, AFTER)
    assert 0 < told["interrupted"] < RUNS, told
    assert (told["lost"], told[f"ended with {TOKENS} tokens"]) == (0, RUNS)
    wish = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "top_k": 40}
    for seed in (0, RUNS - 1):
        assert said[seed] == writer.ids("the old king said", seed=seed, **wish)[0]
