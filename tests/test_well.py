"""The operator's page tells whether the server is well: in a sentence, and in charts that say what happened."""

import re
import shutil
from types import SimpleNamespace

import pytest
from workshops import enter

from webapp.views.wellbeing import draw, top_of
from webapp.watch.disk import LOW
from webapp.watch.history import History, Moment


def moment(at: float, **numbers) -> Moment:
    usual = dict.fromkeys(Moment.__dataclass_fields__, 0)
    return Moment(**usual | {"at": at} | numbers)


def history(*moments: Moment) -> History:
    found = History()
    for one in moments:
        found.add(one)
    return found


@pytest.fixture
def operator(app):
    return enter(app)


def look(app) -> None:
    with app.app_context():
        app.extensions["rubric"].watcher.look()


def test_what_grows_is_shown_as_its_rate(app):
    found = history(moment(0, written=0), moment(10, written=500), moment(30, written=500), moment(40, written=510))
    assert found.rates(lambda m: m.written, now=40) == [(30, 50.0), (10, 0.0), (0, 1.0)]


def test_a_mean_is_that_of_what_happened_in_between_and_none_where_nothing_did():
    found = history(
        moment(0, first_sum=9.0, first_count=3),
        moment(10, first_sum=9.0, first_count=3),
        moment(20, first_sum=10.0, first_count=5),
    )
    assert found.means(lambda m: m.first_sum, lambda m: m.first_count, now=20) == [(10, None), (0, 0.5)]


def test_only_the_last_hour_is_remembered():
    found = history(*(moment(10.0 * n) for n in range(1000)))
    values = found.values(lambda m: m.at, now=9990.0)
    assert [ago for ago, _ in values] == [3600.0 - 10.0 * n for n in range(361)]


def test_a_chart_puts_an_hour_ago_at_the_left_and_zero_at_the_bottom():
    chart = draw("Speed", "4", {"": [(3600, 0.0), (1800, 8.0), (900, None), (450, 2.0), (0, 4.0)]}, "{:g}")
    (line,) = chart.lines
    assert line.pieces == ["0,100 50,0", "87.5,75 100,50"], "it is broken where nothing was measured"
    assert line.last == (100, 50)
    assert chart.top == "8"
    assert chart.description == "Speed: 4 now; in the last hour between 0 and 8."


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.3, 0.3), (0.31, 0.4), (7, 8), (8, 8), (1234, 1500), (5e9, 6e9)])
def test_a_chart_ends_at_a_round_number_that_holds_all(value, top):
    assert top_of(value) == pytest.approx(top)


def test_the_page_shows_what_metrics_tell(app, operator):
    operator.finish(operator.start(max_new_tokens=25))
    look(app)
    operator.finish(operator.start(max_new_tokens=25))
    look(app)
    look(app)
    page = operator.get("/workshop/well").text
    assert "All is well." in page
    metrics = operator.get("/metrics", headers={"Host": "127.0.0.1:8000"}).text
    written = int(float(re.search(r'rubric_tokens_total\{.*kind="written".*model="tiny"\} (\S+)', metrics)[1]))
    assert f"<td>{written:,}</td>" in page
    assert page.count('<svg class="spark" role="img" aria-label="') == page.count("<figure>") >= 7
    assert page.count("<polyline") >= 6, "three looks make a line of what grew between them"
    assert "style=" not in page
    assert "<script>" not in page


def test_the_workshop_leads_to_it_and_nobody_else_sees_it(operator, visitor):
    assert 'href="/workshop/well"' in operator.get("/workshop").text
    assert visitor.get("/workshop/well").status_code == 404


def test_what_is_wrong_is_said_first(app, operator, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**12, used=0, free=LOW - 1))
    look(app)
    page = operator.get("/workshop/well").text
    assert '<p class="said" role="status">The disk is nearly full: 268 MB are left.</p>' in page
    monkeypatch.undo()
    look(app)
    monkeypatch.setattr(app.extensions["rubric"].engine, "ready", lambda: "The engine has stopped.")
    assert '<p class="said" role="status">The engine has stopped.</p>' in operator.get("/workshop/well").text
