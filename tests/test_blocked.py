"""An address or a key may be kept out for a time; what is kept of an address is a keyed hash, for a week."""

from datetime import timedelta

import pytest
from conftest import Visitor
from sqlalchemy import select, update
from test_api_keys import BODY, bearer
from test_sheets import JSON, Page
from test_suggestions import ask, take
from workshops import enter

from webapp.api.keys import add_key
from webapp.api.tables import ApiKey
from webapp.http.addresses import hash_of
from webapp.moderation import blocks
from webapp.moderation.tables import BlockedAddress
from webapp.runs.moments import now
from webapp.runs.tables import Run, db

THERE = "203.0.113.7"
ELSEWHERE = {"Host": "rubric.example"}


def coming_from(app, address: str) -> Visitor:
    """A visitor whose requests come from this address."""
    visitor = Visitor(app)
    visitor.client.environ_base["REMOTE_ADDR"] = address
    return visitor


@pytest.fixture
def operator(a):
    return enter(a.app)


@pytest.fixture(autouse=True)
def nobody_is_blocked_afterwards(a):
    yield
    with a.app.app_context():
        db.session.query(BlockedAddress).delete()
        db.session.query(ApiKey).delete()
        db.session.commit()


def kept_of(server, run) -> str | None:
    return server.row(run, Run.address)


def hashed(server, address) -> str | None:
    with server.app.app_context():
        return hash_of(address)


def block(operator, run, days="7"):
    assert operator.post(f"/workshop/written/run/{run[3:]}/block", data={"days": days}).status_code == 303


# What is kept


def test_beside_each_run_stands_a_hash_of_its_address_that_needs_the_server_s_key(a, serve):
    run = coming_from(a.app, THERE).start(max_new_tokens=1)
    a.finish(run)
    kept = kept_of(a, run)
    assert kept == hashed(a, THERE)
    assert len(kept) == 64
    assert kept != hashed(a, "203.0.113.8")
    assert hashed(serve(SECRET_KEY="another"), THERE) != kept


def test_runs_are_noted_whichever_way_they_are_made(a):
    visitor = coming_from(a.app, THERE)
    run = visitor.start(max_new_tokens=4, samples=2)
    a.finish(run)
    made = [visitor.post(f"{run}/{what}", data={"sample": "1"}).headers["Location"] for what in ("retry", "pick")]
    page = Page(visitor).open("Once upon")
    take(page, ask(page))
    page.do("write", at=0, options={"max_new_tokens": "4", "model": "tiny"})
    made += [f"/r/{version['run']}" for version in page.look()["versions"]]
    body = BODY | {"store": True, "prompt": ["the", "old"], "stream": True}
    environ = {"REMOTE_ADDR": THERE}
    with a.app.app_context():
        key = bearer(add_key("somebody"))
    told = a.app.test_client().post("/v1/completions", json=body, headers=key, environ_base=environ, buffered=True).text
    made += [f"/r/{part.split(chr(34))[0]}" for part in told.split("/r/")[1:]]
    assert len(set(made)) == 6
    assert {kept_of(a, one) for one in made} == {hashed(a, THERE)}


@pytest.mark.parametrize(
    ("one", "other", "are_alike"),
    [
        ("2001:db8:1:2::7", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::7", "2001:db8:1:3::7", False),
        ("::ffff:203.0.113.7", THERE, True),
        ("203.0.113.7 ", THERE, True),
        ("203.0.113.7", "203.0.113.70", False),
    ],
)
def test_of_an_ipv6_address_its_network_counts(a, one, other, are_alike):
    assert (hashed(a, one) == hashed(a, other)) is are_alike
    assert hashed(a, "no address") is None


def test_a_header_names_the_address_only_where_a_proxy_is_trusted(a, serve):
    trusting = serve(TRUSTED_PROXIES=1)
    for server, believed in ((a, "127.0.0.1"), (trusting, THERE)):
        visitor = Visitor(server.app)
        headers = {"X-Forwarded-For": f"198.51.100.1, {THERE}"}
        form = {"prompt": "the", "model": "tiny", "max_new_tokens": "1", "seed": "1"}
        run = visitor.post("/runs", data=form, headers=headers).headers["Location"]
        server.finish(run)
        assert kept_of(server, run) == hashed(server, believed)


def test_after_a_week_it_is_erased(a):
    old, new = a.write(max_new_tokens=1), a.write(max_new_tokens=1)
    a.change(old, created=now() - timedelta(days=7, minutes=1))
    a.change(new, created=now() - timedelta(days=7) + timedelta(minutes=1))
    a.do("forget_addresses")
    assert (kept_of(a, old), kept_of(a, new)) == (None, hashed(a, "127.0.0.1"))
    assert "not known any more" in enter(a.app).get(f"/workshop/written/run/{old[3:]}").text


def test_erased_hashes_are_in_no_file_of_the_database(a):
    run = coming_from(a.app, "203.0.113.99").start(max_new_tokens=1)
    a.finish(run)
    a.change(run, created=now() - timedelta(days=8))
    a.do("forget_addresses")
    assert a.state.removal.scrubbed is False, "it is still in the log of changes"
    a.do("scrub")
    with a.app.app_context():
        if db.engine.dialect.name != "sqlite":
            return
        from pathlib import Path

        files = Path(db.engine.url.database).parent.glob("rubric.sqlite*")
        assert not any(hashed(a, "203.0.113.99").encode() in file.read_bytes() for file in files)


# Who is kept out


def test_a_blocked_address_reads_and_deletes_its_own_and_writes_nothing_on_any_server(a, b, operator):
    visitor, other = coming_from(a.app, THERE), coming_from(a.app, "203.0.113.8")
    run = visitor.start(max_new_tokens=1)
    a.finish(run)
    sheet = Page(visitor).open("Once upon")
    block(operator, run)
    for server in (a, b):
        there = coming_from(server.app, THERE)
        there.client.set_cookie("rubric", visitor.client.get_cookie("rubric").value)
        refused = there.post("/runs", data={"prompt": "x", "model": "tiny"})
        assert refused.status_code == 403
        assert "Nothing can be written from this network address until" in refused.text
        assert there.post(f"{run}/retry").status_code == 403
        assert there.post(f"{run}/report", data={"reason": "other"}).status_code == 403
        assert there.post("/sheets", json={"key": "q" * 22}, headers=JSON).status_code == 403
        assert there.post(f"{sheet.address}/suggest", json={}, headers=JSON).status_code == 403
        answer = there.post("/v1/completions", json=BODY)
        assert (answer.status_code, answer.get_json()["error"]["type"]) == (403, "invalid_request_error")
        assert [there.get(path).status_code for path in ("/", run, sheet.address, "/runs")] == [200] * 4
        assert coming_from(server.app, "203.0.113.8").start(max_new_tokens=1)
    assert other.start(max_new_tokens=1)
    assert visitor.post(f"{sheet.address}/delete").status_code == 303
    assert visitor.post(f"{run}/delete").status_code == 303


def test_a_block_ends_by_itself_and_by_the_operator(a, operator):
    visitor = coming_from(a.app, THERE)
    run = visitor.start(max_new_tokens=1)
    a.finish(run)
    block(operator, run, "1")
    kept = {"address": hashed(a, THERE)}
    assert kept["address"] in operator.get("/workshop/blocks").text
    assert operator.post("/workshop/blocks/lift", data=kept).status_code == 303
    visitor.start(max_new_tokens=1)
    block(operator, run, "1")
    with a.app.app_context():
        over = update(BlockedAddress).values(until=now() - timedelta(seconds=1))
        db.session.execute(over)
        db.session.commit()
    visitor.start(max_new_tokens=1)
    a.do("forget_addresses")
    with a.app.app_context():
        assert db.session.scalars(select(BlockedAddress)).all() == []


def test_the_operator_is_not_kept_out_of_the_own_address(a, operator):
    run = a.write(max_new_tokens=1)
    block(operator, run)
    assert a.visitor.post(f"{run}/retry").status_code == 403
    assert operator.post("/workshop/blocks/lift", data={"address": hashed(a, "127.0.0.1")}).status_code == 303
    assert a.visitor.post(f"{run}/retry").status_code == 303


def test_an_address_can_be_blocked_by_typing_it(a, operator):
    typed = {"address": f" {THERE}", "days": "30"}
    assert operator.post("/workshop/blocks", data=typed).status_code == 303
    assert coming_from(a.app, THERE).post("/runs", data={"prompt": "x"}).status_code == 403
    for wrong in ({"address": "me", "days": "7"}, {"address": THERE, "days": "8"}, {"address": THERE}):
        assert operator.post("/workshop/blocks", data=wrong).status_code == 422


def test_where_all_visitors_seem_to_have_one_address_the_page_says_so(a, serve, operator):
    run = a.write(max_new_tokens=1)
    forwarded = {"X-Forwarded-For": THERE}
    for page in ("/workshop/blocks", f"/workshop/written/run/{run[3:]}"):
        assert "TRUSTED_PROXIES is 0" in operator.get(page, headers=forwarded).text
        assert "TRUSTED_PROXIES is 0" not in operator.get(page).text
        behind = enter(serve(TRUSTED_PROXIES=1).app)
        assert "TRUSTED_PROXIES is 0" not in behind.get(page, headers=forwarded).text


def test_a_blocked_key_is_good_for_nothing_until_the_block_ends(a, b, operator):
    with a.app.app_context():
        key, other = add_key("somebody"), add_key("another")
    ask_with = lambda server, key: server.app.test_client().post(  # noqa: E731
        "/v1/completions", json=BODY | {"store": True}, headers=bearer(key) | ELSEWHERE
    )
    run = ask_with(a, key).get_json()["rubric"]["url"].partition("/r/")[2]
    page = operator.get(f"/workshop/written/run/{run}").text
    assert "the key <b>somebody</b>" in page
    assert operator.post("/workshop/blocks/key", data={"name": "somebody", "days": "7"}).status_code == 303
    for server in (a, b):
        answer = ask_with(server, key)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "key_blocked")
        assert "This key is blocked until" in answer.get_json()["error"]["message"]
        assert server.app.test_client().get("/v1/models", headers=bearer(key)).status_code == 403
        assert ask_with(server, other).status_code == 200
    assert "blocked until" in operator.get("/workshop/blocks").text
    with a.app.app_context():
        db.session.execute(update(ApiKey).values(blocked_until=now() - timedelta(seconds=1)))
        db.session.commit()
    assert ask_with(b, key).status_code == 200
    operator.post("/workshop/blocks/key", data={"name": "somebody", "days": "7"})
    assert operator.post("/workshop/blocks/key", data={"name": "somebody"}).status_code == 303
    assert ask_with(b, key).status_code == 200
    assert operator.post("/workshop/blocks/key", data={"name": "nobody", "days": "7"}).status_code == 422


def test_what_stays_open_to_a_blocked_address_is_there(a):
    endpoints = {rule.endpoint for rule in a.app.url_map.iter_rules()}
    assert endpoints >= blocks.STAY_OPEN
