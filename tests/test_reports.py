"""A visitor may say that something is wrong with a run or a sheet: the operator hears it, and nothing is hidden by it."""

import re
from datetime import timedelta

import pytest
from conftest import Visitor
from sqlalchemy import func, select, update
from test_sheets import Page
from test_taken_down import take_down
from workshops import enter

from webapp.moderation import reports
from webapp.moderation.tables import Report
from webapp.runs.moments import now
from webapp.runs.tables import db


@pytest.fixture
def operator(a):
    return enter(a.app)


@pytest.fixture(autouse=True)
def nothing_is_reported_before(a):
    with a.app.app_context():
        db.session.query(Report).delete()
        db.session.commit()


def count(server) -> int:
    with server.app.app_context():
        return db.session.scalar(select(func.count()).select_from(Report))


def report(visitor, address, reason="hurts", words=""):
    return visitor.post(f"{address}/report", data={"reason": reason, "words": words})


def test_the_form_is_one_of_plain_html_with_every_reason(a, b):
    run = a.write(max_new_tokens=1)
    assert f'href="{run}/report"' in b.visitor.get(run).text
    assert f"{run}/report" not in a.visitor.get(run).text, "one's own can be deleted"
    page = b.visitor.get(f"{run}/report").text
    assert f'action="{run}/report" method="post"' in page
    assert re.findall(r'name="reason" value="(\w+)"', page) == list(reports.REASONS)


def test_the_operator_sees_what_was_said_with_the_text_and_nothing_is_hidden(a, b, operator):
    run, words = a.write("the king of xylophones"), "It says <b>my</b> name.\r\n从前"
    answer = report(b.visitor, run, "private", words)
    assert (answer.status_code, "Thank you" in answer.text) == (200, True)
    assert "1 thing reported" in operator.get("/workshop").text
    listed = operator.get("/workshop/written?which=reported").text
    assert f"/workshop/written/run/{run[3:]}" in listed
    assert "1 report<" in listed
    page = operator.get(f"/workshop/written/run/{run[3:]}").text
    assert reports.REASONS["private"] in page
    assert "It says &lt;b&gt;my&lt;/b&gt; name.\n从前" in page
    assert "xylophones" in page
    for visitor in (a.visitor, b.visitor, Visitor(a.app)):
        assert visitor.get(run).status_code == 200
    assert run in a.visitor.get("/runs").text
    assert "xylophones" in a.visitor.get("/runs").text


def test_a_report_of_a_version_stands_at_its_sheet(a, b, operator):
    page = Page(a.visitor).open("Once upon")
    page.do("write", at=9, options={"max_new_tokens": "2", "seed": "1", "model": "tiny"})
    version = f"/r/{page.look()['versions'][0]['run']}"
    a.finish(version)
    assert f'href="{page.address}/report"' in b.visitor.get(page.address).text
    assert f"{page.address}/report" not in a.visitor.get(page.address).text
    assert report(b.visitor, version, "spam").status_code == 200
    assert report(Visitor(a.app), page.address, "illegal").status_code == 200
    listed = operator.get("/workshop/written?which=reported").text
    assert f"/workshop/written/sheet/{page.address[3:]}" in listed
    assert "2 reports" in listed
    whole = operator.get(f"/workshop/written/sheet/{page.address[3:]}").text
    assert reports.REASONS["spam"] in whole
    assert reports.REASONS["illegal"] in whole
    operator.post(f"/workshop/written/sheet/{page.address[3:]}/put-aside")
    assert count(a) == 0
    assert "Nothing is reported" in operator.get("/workshop/written?which=reported").text


@pytest.mark.parametrize(
    ("reason", "words", "sentence"),
    [
        ("", "", "reason must be one"),
        ("dull", "", "reason must be one"),
        ("other", "x" * 501, "at most 500 characters"),
    ],
)
def test_what_cannot_be_taken_comes_back_with_the_words_in_the_box(a, b, reason, words, sentence):
    answer = report(b.visitor, a.write(max_new_tokens=1), reason, words)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert words in answer.text
    assert count(a) == 0


def test_a_visitor_says_one_thing_of_each_and_not_more_than_a_few_a_day(a, b):
    runs = [a.write(f"run {number}", max_new_tokens=1) for number in range(reports.A_DAY + 1)]
    for run in (runs[0], *runs[:-1]):
        assert report(b.visitor, run).status_code == 200
    assert count(a) == reports.A_DAY
    assert report(b.visitor, runs[-1]).status_code == 429
    assert report(b.visitor, runs[0], "spam").status_code == 200, "what was said of it is put in other words"
    with a.app.app_context():
        db.session.execute(update(Report).values(created=now() - timedelta(days=1, seconds=1)))
        db.session.commit()
    assert count(a) == reports.A_DAY


def test_who_throws_the_cookie_away_is_limited_by_the_address(a):
    run, most = a.write(max_new_tokens=1), int(reports.FROM_ONE_ADDRESS.split()[0])
    answers = [report(Visitor(a.app), run) for _ in range(most + 1)]
    assert [answer.status_code for answer in answers] == [200] * most + [429]
    assert "Many things were reported from this network address" in answers[-1].text


def test_reports_go_with_what_they_are_of_and_after_some_months(a, b, operator):
    gone, old, new = (a.write(max_new_tokens=1) for _ in range(3))
    for run in (gone, old, new):
        assert report(b.visitor, run).status_code == 200
    a.visitor.post(f"{gone}/delete")
    with a.app.app_context():
        past = now() - reports.KEPT - timedelta(minutes=1)
        db.session.execute(update(Report).where(Report.name == old[3:]).values(created=past))
        db.session.commit()
    a.do("forget_addresses")
    with a.app.app_context():
        assert db.session.scalars(select(Report.name)).all() == [new[3:]]
    take_down(operator, new, "delete")
    assert count(a) == 0


def test_a_thing_that_is_hidden_already_cannot_be_reported(a, b, operator):
    run = a.write(max_new_tokens=1)
    take_down(operator, run)
    assert b.visitor.get(f"{run}/report").status_code == report(b.visitor, run).status_code == 410
