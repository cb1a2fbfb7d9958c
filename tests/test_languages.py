"""In which language who is told what: pages, what they ask for later, refusals, the API, the terminal."""

import json
import os
import re

import pytest
from conftest import ROOT
from werkzeug.exceptions import BadRequestKeyError, UnsupportedMediaType, default_exceptions

from finetune.json_rows import text_of
from finetune.tables import Layout
from generate import Problem, Refusal, counted, languages, retelling
from generate.__main__ import main as generate
from hatch_build import compile_catalogues
from webapp.http.errors import http_error
from webapp.http.languages import COOKIE
from webapp.jobs.service import STATES
from webapp.jobs.tables import Job, JobState
from webapp.jobs.titles import title_of
from webapp.views.job_view import JobView

CHINESE = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def in_chinese():
    with languages.speaking(languages.catalogue(languages.CHINESE)):
        yield


@pytest.fixture
def terminal(monkeypatch):
    """A process of a user whose language is known; in the end it is English again."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    monkeypatch.setenv("LANG", "C")
    languages.speak_as_asked()
    os.environ.pop("LANGUAGE", None)  # which argparse goes by


def language_of(page: str) -> str:
    return re.search(r'<html lang="([^"]*)">', page)[1]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"),
        ("en-GB,en;q=0.9", "en"),
        ("zh", "zh-Hans"),
        ("zh-CN", "zh-Hans"),
        ("zh-Hans-SG", "zh-Hans"),
        ("zh-TW,zh;q=0.9", "zh-Hans"),
        ("de-DE,de;q=0.9,zh;q=0.5,en;q=0.3", "zh-Hans"),
        ("en;q=0.5,zh;q=0.9", "zh-Hans"),
        ("de, zh;q=0", "en"),
        ("zh-CN;q=0, zh;q=0.1", "zh-Hans"),
        ("fr", "en"),
        ("*", "en"),
        (";;q=x,,-", "en"),
    ],
)
def test_a_page_is_in_the_first_language_that_its_browser_names_and_we_know(visitor, accepted, language):
    headers = {} if accepted is None else {"Accept-Language": accepted}
    page = visitor.get("/runs", headers=headers)
    assert language_of(page.text) == language
    assert ("你的稿纸" in page.text) is (language == "zh-Hans")
    assert {"Accept-Language", "Cookie"} <= set(page.vary)


def test_the_switch_at_a_page_s_foot_is_remembered_and_leads_back(visitor):
    where = {"Referer": "http://localhost/runs?q=fox"}
    answer = visitor.post("/language", data={"language": "zh-Hans"}, headers=where)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/runs?q=fox")
    assert f"{COOKIE}=zh-Hans" in answer.headers["Set-Cookie"]
    assert language_of(visitor.get("/runs").text) == "zh-Hans"
    assert '<button class="link" name="language" value="en" lang="en">English</button>' in visitor.get("/runs").text
    visitor.post("/language", data={"language": "en"}, headers=where)
    assert language_of(visitor.get("/runs", headers=CHINESE).text) == "en", "what was chosen comes first"


@pytest.mark.parametrize(
    "referer", [None, "https://elsewhere.example/runs", "http://localhost//elsewhere.example", "x"]
)
def test_the_switch_leads_to_no_other_site(visitor, referer):
    headers = {} if referer is None else {"Referer": referer}
    answer = visitor.post("/language", data={"language": "zh-Hans"}, headers=headers)
    assert answer.headers["Location"] == "/"


def test_a_language_that_we_have_not_is_not_remembered(visitor):
    assert "Set-Cookie" not in visitor.post("/language", data={"language": "x; Path=/"}).headers


def test_what_a_page_asks_for_later_comes_in_its_own_language(visitor):
    run = visitor.start()
    visitor.finish(run)
    visitor.post("/language", data={"language": "zh-Hans"})  # in another tab
    own = {"HX-Request": "true", "Page-Language": "en"}
    assert "Again from here" in visitor.get(f"{run}/token?sample=0&place=2", headers=own).text
    assert "从这里重写" in visitor.get(f"{run}/token?sample=0&place=2", headers={"HX-Request": "true"}).text


def test_a_stream_speaks_the_language_of_its_page(visitor):
    run = visitor.start(samples=2)
    told = "".join(event.get("data", "") for event in visitor.events(run, **CHINESE))
    assert "写到了长度：20 个 token。" in told
    assert "Stopped" not in told
    assert "完成：2 个样本，40 个 token。" in told


def test_a_page_that_grows_without_scripts_does_too(visitor):
    run = visitor.start(samples=2)
    assert "<h2>样本 2</h2>" in visitor.get(f"{run}/plain", headers=CHINESE).text


def test_a_sheet_s_stream_is_told_its_language_in_the_address(visitor):
    about = {"key": "k" * 22, "edits": [[0, 0, "An old sheet"]]}
    sheet = visitor.client.post("/sheets", json=about).get_json()["id"]
    assert visitor.get(f"/s/{sheet}?lang=zh-Hans").text.count('<html lang="zh-Hans">') == 1


def test_a_refusal_is_told_in_the_visitor_s_language_with_its_values(visitor):
    form = {"prompt": "x", "model": "tiny", "temperature": "hot"}
    page = visitor.post("/runs", data=form, headers=CHINESE)
    assert page.status_code == 422
    assert "有多大胆：temperature 必须是 0 到 5 的数，不能是 &#39;hot&#39;。" in page.text
    told = visitor.post("/runs", data=form, headers=CHINESE | {"Accept": "application/json"}).get_json()
    assert told["problem"] == "temperature 必须是 0 到 5 的数，不能是 'hot'。"
    assert told["values"]["name"] == "temperature"


def test_an_error_s_page_is_chinese(visitor):
    page = visitor.get("/no-such-page", headers=CHINESE)
    assert "这里没有这个页面。" in page.text
    assert language_of(page.text) == "zh-Hans"


def test_the_api_is_english_whatever_the_browser_asks_for(visitor):
    for path in ("/v1/nowhere", "/v1/models/none"):
        assert not HAN.search(visitor.get(path, headers=CHINESE).text)
    body = {"model": "tiny", "prompt": "x", "temperature": "hot"}
    assert not HAN.search(visitor.post("/v1/completions", json=body, headers=CHINESE).text)
    assert not HAN.search(visitor.get("/v1/openapi.json", headers=CHINESE).text)
    assert "程序也能在这里写" in visitor.get("/v1", headers=CHINESE).text, "the page about it is one of ours"


def test_scripts_are_brought_their_words_and_english_ones_none(visitor):
    assert 'id="words"' not in visitor.get("/").text
    page = visitor.get("/", headers=CHINESE).text
    words = json.loads(re.search(r'id="words">(.*?)</script>', page)[1])
    assert words["Copied."] == "已复制。"


def test_a_card_without_words_of_its_own_is_drawn_once_for_each_language(visitor):
    run = visitor.start()
    visitor.finish(run)
    english, chinese = (visitor.get(f"{run}.png", headers=headers) for headers in ({}, CHINESE))
    assert english.get_data() == chinese.get_data(), "what it shows is the run's own text"
    assert {"Accept-Language", "Cookie"} <= set(chinese.vary)


def test_a_run_s_text_is_the_same_in_every_language(visitor):
    run = visitor.start(prompt="Settings, Retry, Share")
    visitor.finish(run)
    prompts = [
        re.search(r'id="prompt">(.*?)</span></span>', visitor.get(run, headers=h).text)[1] for h in ({}, CHINESE)
    ]
    assert prompts[0] == prompts[1]


# Sentences


def test_a_problem_is_put_into_words_where_it_is_told():
    problem = Problem("{name} is {text!r}: {reason}.", name="PORT", text="x", reason=Problem("must be a folder"))
    assert str(problem) == "PORT is 'x': must be a folder."
    with languages.speaking(languages.catalogue(languages.CHINESE)):
        assert str(problem) == "PORT 是 'x'：必须是文件夹。"
        assert str(Refusal("must be a folder")) == "必须是文件夹"
    assert str(problem) == "PORT is 'x': must be a folder."


def test_a_sentence_in_no_catalogue_stays_as_it_is(in_chinese):
    assert str(Problem("Nobody has {this}.", this="translated")) == "Nobody has translated."
    assert languages.gettext("") == ""


def test_things_are_counted_as_a_language_counts_them(in_chinese):
    assert [counted(1), counted(1234), counted(3, "head")] == ["1 个 token", "1,234 个 token", "3 个头"]


def test_what_is_kept_with_models_in_english_is_told_in_chinese(in_chinese):
    assert (
        retelling.retold("converted from the TensorFlow checkpoint model.ckpt, step 7")
        == "由 TensorFlow 检查点 model.ckpt 第 7 步转换而来"
    )
    assert retelling.retold("It reads like a trained model, but better with 12 heads: is n_head right?").startswith(
        "它像训练过的模型，但用 12 个头"
    )
    assert retelling.retold("my own words") == "my own words"


def test_no_error_is_told_in_werkzeug_s_english(app):
    chinese = languages.catalogue(languages.CHINESE)
    media = UnsupportedMediaType("Did not attempt to load JSON data, as the type was another.")
    for error in (*(kind() for kind in default_exceptions.values()), BadRequestKeyError("field"), media):
        with app.test_request_context(headers={"Accept": "application/json"}), languages.speaking(chinese):
            told = http_error(error).get_json()["problem"]
        assert HAN.search(told), error
        assert not re.search("[a-z]{3}", told), error


def test_what_is_no_object_of_json_is_named_in_chinese(in_chinese):
    for value in (1, 1.5, "x", [], None, True):
        with pytest.raises(Refusal) as caught:
            text_of(Refusal("{file}, line {line}", file="a.json", line=2), value, "text")
        assert not re.search("[a-z]{3}", str(caught.value).replace("a.json", "").replace("（null）", ""))


def test_what_a_look_assumed_of_a_table_is_told_in_the_page_s_language(in_chinese):
    how = Problem("{file}: {how}.", file="a.csv", how=Layout(";", False, 0, ["a", "b"], True).told)
    found = {"assumed": [{"message": how.message, "values": how.as_json()}, "kept by an earlier version"]}
    view = JobView.of(Job(kind="finetune", progress={"found": found}), 0, "here")
    assert view.assumed == [
        "a.csv：单元格用分号，引号算作文字隔开；第一行是表头（a, b）。",
        "kept by an earlier version",
    ]


@pytest.mark.parametrize(
    ("unit", "total", "told", "fact"),
    [
        ("steps", 1000, "停在第 120 步，共 1,000 步。", "120 / 1,000 步"),
        ("bytes", 3e6, "停在 0.0 / 3.0 MB。", "0.0 / 3.0 MB"),
    ],
)
def test_how_far_a_job_is_is_counted_in_chinese(in_chinese, unit, total, told, fact):
    job = Job(kind="convert", makes="old", title="Bring old", about={}, state="stopped")
    job.progress = {"done": 120, "total": total, "unit": unit}
    view = JobView.of(job, 0, "here")
    assert view.sentence.startswith(told)
    assert view.facts[0] == fact
    assert title_of(job) == "导入 old"


def test_each_state_of_a_job_has_a_chinese_name(in_chinese):
    assert set(STATES) == set(JobState)
    assert all(HAN.search(str(name)) and not re.search("[a-z]", str(name)) for name in STATES.values())


# The terminal


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh_Hans"),
        ({"LANG": "zh_TW.UTF-8"}, "zh_Hans"),
        ({"LANG": "zh-Hans"}, "zh_Hans"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh_Hans"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": ""}, "zh_Hans"),
        ({"LANG": "zhenya"}, "en"),
    ],
)
def test_the_terminal_s_language_is_that_of_its_environment(environment, language):
    assert languages.language_of(environment) == language


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("zh_CN.UTF-8", "generate: 给一个开头，或者 --interactive，或者 --unconditional：只能要一样。"),
        ("C", "generate: give a prompt, or --interactive, or --unconditional: only one of them."),
    ],
)
def test_a_command_refuses_in_the_user_s_language(terminal, capsys, language, told):
    terminal.setenv("LANG", language)
    assert generate(["--interactive", "--unconditional"]) == 1
    assert capsys.readouterr().err.strip() == told


def test_a_command_explains_itself_in_the_user_s_language(terminal, capsys):
    terminal.setenv("LANG", "zh_CN.UTF-8")
    with pytest.raises(SystemExit):
        generate(["--help"])
    told = capsys.readouterr().out
    assert "用法：python -m generate" in told
    assert "显示这份帮助并退出" in told
    assert "写多长。最多写多少个 token" in told


def test_the_catalogue_is_compiled():
    compile_catalogues(ROOT)
    assert isinstance(languages.catalogue(languages.CHINESE), languages.GNUTranslations)
    assert languages.catalogue("en") is languages.ENGLISH
    assert languages.catalogue("nowhere") is languages.ENGLISH
