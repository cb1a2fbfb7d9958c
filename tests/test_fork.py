"""A run forks at any token into a run of one's own: nothing before it is generated again, and nothing is lost."""

import pytest

KNOWN = ("logprob", "sampled_logprob", "entropy", "rank", "alternatives")


def fork(who, run, **fields) -> str:
    answer = who.post(f"{run}/fork", data=fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def test_a_run_forks_at_every_token_of_prompt_and_continuation(visitor, friend):
    run = visitor.start("the 从前 🦊 king", max_new_tokens=16, temperature=3, top_k=0)
    parent = visitor.finish(run)
    tokens = parent["prompt"]["tokens"] + parent["samples"][0]["tokens"]
    start = len(parent["prompt"]["tokens"])
    for place in range(1, len(tokens)):
        where = {"sample": "prompt", "place": place} if place < start else {"sample": 0, "place": place - start}
        token = tokens[place]["alternatives"][3]["id"]
        child = friend.finish(fork(friend, run, token=token, **where))
        ids = [t["id"] for t in child["prompt"]["tokens"]]
        assert ids == [t["id"] for t in tokens[:place]] + [token]
        assert child["parent"] == {"id": run[3:], "sample": None if place < start else 0, "relation": "fork"}
        assert child["seed"] != parent["seed"] or child["samples"][0]["tokens"] != parent["samples"][0]["tokens"]
    assert visitor.json(run) == parent, "the parent is as it was"


def test_what_was_known_of_the_tokens_before_stays_to_the_bit(visitor):
    run = visitor.start("the old king", max_new_tokens=16, repetition_penalty=1.3, temperature=0.7)
    parent = visitor.finish(run)
    tokens = parent["prompt"]["tokens"] + parent["samples"][0]["tokens"]
    child = visitor.finish(fork(visitor, run, sample=0, place=9))
    kept = child["prompt"]["tokens"]
    assert [{k: t[k] for k in KNOWN} for t in kept] == [{k: t[k] for k in KNOWN} for t in tokens[: len(kept)]]
    grandchild = visitor.finish(visitor.post(f"/r/{child['id']}/continue").headers["Location"])
    both = child["prompt"]["tokens"] + child["samples"][0]["tokens"]
    assert [{k: t[k] for k in KNOWN} for t in grandchild["prompt"]["tokens"]] == [
        {k: t[k] for k in KNOWN} for t in both
    ]


def test_a_chosen_alternative_has_the_numbers_it_had_as_an_alternative(visitor):
    run = visitor.start("the old king", max_new_tokens=8)
    told = visitor.finish(run)["samples"][0]["tokens"][5]
    other = told["alternatives"][6]
    child = visitor.finish(fork(visitor, run, sample=0, place=5, token=other["id"]))
    chosen = child["prompt"]["tokens"][-1]
    assert (chosen["id"], chosen["logprob"], chosen["rank"]) == (other["id"], other["logprob"], 7)
    assert chosen["alternatives"] == told["alternatives"]


def test_again_from_here_takes_another_way_with_a_new_seed(visitor):
    run = visitor.start("the old king", max_new_tokens=12, temperature=2, top_k=0)
    parent = visitor.finish(run)
    child = visitor.finish(fork(visitor, run, sample=0, place=4))
    assert len(child["prompt"]["tokens"]) == len(parent["prompt"]["tokens"]) + 4
    assert child["seed"] != parent["seed"]
    first = fork(visitor, run, sample="prompt", place=0)
    assert visitor.finish(first)["prompt"]["text"] == ""


def test_a_child_of_a_child_of_a_friend_s_run_shows_its_whole_family(visitor, friend):
    root = visitor.start("the old king", max_new_tokens=8)
    visitor.finish(root)
    child = fork(friend, root, sample=0, place=3)
    friend.finish(child)
    grandchild = fork(friend, child, sample=0, place=2)
    friend.finish(grandchild)
    cousin = visitor.post(f"{root}/retry").headers["Location"]
    visitor.finish(cousin)
    page = friend.get(grandchild).text
    family = page.split('class="family"')[1].split("</nav>")[0]
    for relative in (root, child, cousin):
        assert f'href="{relative}"' in family
    assert family.index(root) < family.index(child) < family.index("aria-current") < family.index(cousin)
    for one in (root, child, cousin):
        assert f'href="{grandchild}"' in visitor.get(one).text
    assert 'class="family"' not in visitor.get(visitor.start("alone", max_new_tokens=1)).text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "sample must be a whole number, not"),
        ({"sample": "0"}, "place must be a whole number, not"),
        ({"sample": "0", "place": "99"}, "place must be from 0 to 4, not 99."),
        ({"sample": "7", "place": "0"}, "sample must be from 0 to 0, not 7."),
        ({"sample": "0", "place": "1", "token": "x"}, "token must be a whole number, not"),
        ({"sample": "0", "place": "1", "token": "299999"}, "token must be one of the alternatives"),
        ({"sample": "prompt", "place": "1000"}, "place must be from 0 to"),
    ],
)
def test_a_fork_that_cannot_be_is_refused_with_one_sentence(visitor, fields, said):
    run = visitor.start("the old king", max_new_tokens=5)
    visitor.finish(run)
    answer = visitor.post(f"{run}/fork", data=fields)
    assert answer.status_code == 422
    assert said in answer.text.replace("&#39;", "'")


def test_no_text_grows_beyond_what_a_prompt_may_have(app, visitor, monkeypatch):
    run = visitor.start("the old king", max_new_tokens=12)
    told = visitor.finish(run)
    *kept, last = told["prompt"]["tokens"] + told["samples"][0]["tokens"]
    limit = sum(len(token["bytes"]) for token in kept)
    monkeypatch.setattr(app.extensions["rubric"].service, "max_prompt", limit)
    child = fork(visitor, run, sample=0, place=11)
    assert len(visitor.finish(child)["prompt"]["tokens"]) == len(kept), "the limit itself is allowed"
    one = next(one for one in last["alternatives"] if one["bytes"])
    whole = limit + len(last["bytes"])
    for action, fields, size, cannot in (
        ("fork", {"sample": 0, "place": 11, "token": one["id"]}, limit + len(one["bytes"]), "be forked there"),
        ("continue", {}, whole, "be continued"),
        ("shift", {"model": "other"}, whole, "be read by another model"),
    ):
        answer = visitor.post(f"{run}/{action}", data=fields)
        assert answer.status_code == 422
        assert f"The text has {size} bytes and cannot {cannot}; the limit is {limit}." in answer.text


def test_a_run_that_is_being_written_can_be_forked_where_it_is_written_already(visitor, friend):
    run = visitor.start("the old king", model="slow", max_new_tokens=400)
    stream = friend.client.get(f"{run}/events")
    parts = iter(stream.response)
    while b"#sample-0" not in next(parts):
        pass
    child = fork(friend, run, sample=0, place=0)
    visitor.post(f"{run}/stop")
    friend.post(f"{child}/stop")
    stream.close()
    assert friend.finish(child)["parent"]["id"] == run[3:]


def test_an_edited_prompt_stands_beside_the_one_it_was_and_an_edited_text_below_it(visitor):
    root = visitor.start("the old king", max_new_tokens=4)
    visitor.finish(root)
    form = {"prompt": "the young king", "model": "tiny", "max_new_tokens": 4, "parent": root[3:]}
    beside = visitor.post("/runs", data=form).headers["Location"]
    below = visitor.post("/runs", data=form | {"parent_sample": 0}).headers["Location"]
    family = visitor.get(root).text.split('class="family"')[1].split("</nav>")[0]
    tree = "".join(part for part in family.replace(" ", "").replace("\n", "") if part)
    assert f'href="{below}">edited</a></li></ul></li><li><ahref="{beside}"' in tree
