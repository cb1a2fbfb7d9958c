"""The page promises what its engine can do: over one that can only write, nothing more is offered or told, and nothing breaks."""

import html
import json
import re
from contextlib import closing

import pytest
from conftest import finished
from engines import until_written
from fake_engine import EVERYTHING, FakeEngine
from flask_migrate import upgrade
from rounds import Reader, Server

from generate import Capabilities, Outlook, find_model, read_settings
from webapp.views.sentences import not_told


def serving(models, folder, engine):
    """A server over an engine, with a database of its own."""
    settings = read_settings(
        {
            "RUBRIC_MODELS": str(models),
            "RUBRIC_MODEL": "tiny",
            "RUBRIC_INSTANCE": str(folder),
            "RUBRIC_RATE_LIMIT": "100000 per minute",
        }
    )
    server = Server(settings, engine)
    with server.app.app_context():
        upgrade()
    return server


@pytest.fixture(scope="module")
def plain(models, tmp_path_factory):
    """A server whose engine only writes, and has only the model `tiny`."""
    folder = tmp_path_factory.mktemp("plain")
    with closing(FakeEngine(Capabilities())) as engine, closing(serving(models, folder, engine)) as server:
        yield server


@pytest.fixture(scope="module")
def rich(models, tmp_path_factory):
    """The same pages over an engine that can do everything."""
    folder = tmp_path_factory.mktemp("rich")
    with closing(FakeEngine(EVERYTHING)) as engine, closing(serving(models, folder, engine)) as server:
        yield server


@pytest.fixture(scope="module")
def run(plain) -> str:
    return plain.write(max_new_tokens=12)


def panel(server, run, sample, place=1) -> str:
    answer = server.visitor.get(f"{run}/token?sample={sample}&place={place}")
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html.unescape(answer.text)))


def refused(server, path, **data) -> str:
    """The one sentence with which a form is refused."""
    answer = server.visitor.post(path, data=data, headers={"HX-Request": "true"})
    assert answer.status_code == 422, answer.status_code
    return html.unescape(re.search(r'<p class="said"[^>]*>([^<]+)</p>', answer.text)[1])


def test_what_is_not_told_is_said_in_one_sentence():
    assert not_told([]) == ""
    assert not_told(["the rank"]) == "The rank is not told by this engine."
    assert not_told(["its rank", "the entropy"]) == "Its rank and the entropy are not told by this engine."
    assert not_told(["a", "b", "c"]) == "A, b and c are not told by this engine."


def test_the_panel_tells_what_is_told_and_names_the_rest(plain, rich, run):
    said = panel(plain, run, 0)
    assert re.search(r"The model gave it [\d.]+ %\. ", said)
    assert "Its rank, the entropy and what the sampler left are not told by this engine." in said
    assert "None" not in said
    assert "nan" not in said
    told = panel(rich, rich.write(max_new_tokens=12), 0)
    assert re.search(
        r"The model gave it [\d.]+ %, the settings made that [\d.]+ %\. It ranked \d\. "
        r"Unsure by 1\.39 nats\.",
        told,
    )
    assert "not told" not in told


def test_the_panel_of_a_prompt_that_nobody_judged_says_so(plain, rich, run):
    assert "What the model thought of the prompt is not told by this engine." in panel(plain, run, "prompt")
    assert "The first token" in panel(plain, run, "prompt", 0)
    assert "The model gave it" in panel(rich, rich.write(), "prompt")


def test_a_lens_without_anything_to_show_says_so(plain, rich, run):
    page = plain.visitor.get(run).text
    assert '<p class="legend rank">The rank is not told by this engine.</p>' in page
    assert '<p class="legend entropy">The entropy is not told by this engine.</p>' in page
    assert '<span class="p0">over 50 % likely</span>' in page, "probabilities are told"
    assert re.search(r'<span class="p\d" data-n', page)
    assert not re.search(r'class="[^"]*\b[ke]\d', page)
    assert "not told" not in rich.visitor.get(rich.write()).text


def test_a_run_that_has_not_begun_has_the_lenses_that_its_engine_will_fill(plain, rich):
    for server, count in ((plain, 2), (rich, 0)):
        blockers = [server.visitor.start(max_new_tokens=4096) for _ in range(server.state.engine.max_rows)]
        waiting = server.visitor.start(max_new_tokens=4096)
        assert server.visitor.get(waiting).text.count("is not told by this engine") == count
        for one in (*blockers, waiting):
            server.visitor.post(f"{one}/stop")
            server.finish(one)


def test_unknown_numbers_are_null_in_what_is_taken_away(plain, run):
    told = plain.visitor.json(run)
    for token in told["samples"][0]["tokens"]:
        assert token["logprob"] < 0
        assert (token["rank"], token["entropy"], token["sampled_logprob"]) == (None, None, None)
        assert {one["cut"] for one in token["alternatives"]} == {None}
    assert {token["logprob"] for token in told["prompt"]["tokens"]} == {None}


def test_nothing_is_offered_that_the_engine_cannot_do(plain, rich, run):
    other = rich.write(max_new_tokens=12)
    for path, words in {"{run}": ("Replay", "Show what moved"), "/": ("How surprising is my text?",)}.items():
        there, here = (server.visitor.get(path.format(run=one)).text for server, one in ((rich, other), (plain, run)))
        for word in words:
            assert word in there
            assert word not in here
    assert "Retry" in plain.visitor.get(run).text
    assert "Continue" in plain.visitor.get(run).text


def test_the_tools_that_come_with_the_end_of_a_run_are_the_same(plain, rich):
    for server, offered in ((plain, False), (rich, True)):
        run = server.visitor.start(max_new_tokens=12)
        with closing(Reader(server, run)) as reader:
            reader.until("done")
        assert ("Replay" in reader.shown["#tools"]) == offered
        server.finish(run)


def test_models_that_the_engine_does_not_have_cannot_be_chosen(plain, rich):
    def choices(server, path="/"):
        page = server.visitor.get(path).text
        return dict(re.findall(r'<option value="(\w+)" ([^<]*)<', page))

    assert "selected" in choices(plain)["tiny"]
    assert "disabled" not in choices(plain)["tiny"]
    for name in ("other", "storyteller"):
        assert "disabled" in choices(plain)[name]
        assert "not served by this engine" in choices(plain)[name]
        assert "disabled" not in choices(rich)[name]
    assert "selected" in choices(plain, "/?model=other")["tiny"]


def test_what_is_asked_for_anyway_is_refused_in_one_sentence(plain, run):
    assert "does not say the same twice" in refused(plain, f"{run}/replay")
    assert "cannot only read one" in refused(plain, "/runs", prompt="the old king", model="tiny", read="only")
    of_other = "other is not one of those it has: tiny."
    assert refused(plain, "/runs", prompt="the old king", model="other").endswith(of_other)
    assert refused(plain, f"{run}/beside", model="other").endswith(of_other)
    assert refused(plain, f"{run}/shift", model="other").endswith(of_other)


def test_a_sampler_that_the_engine_has_not_is_refused_and_marked(plain, rich):
    asked = {"prompt": "the old king", "model": "tiny"}
    assert refused(plain, "/runs", **asked, dry_multiplier="0.8").endswith("set it to 0, which is off.")
    assert refused(plain, "/runs", **asked, banned_phrases="fox").endswith("has no banned_phrases; leave it empty.")
    assert "This server's engine has no" in refused(plain, "/runs", **asked, preset="wild")
    page, other = plain.visitor.get("/").text, rich.visitor.get("/").text
    assert re.search(r'value="wild"[^>]* disabled>', page)
    assert re.search(r"This server’s engine has no min_p, xtc_probability\.", page)
    assert not re.search(r'value="model"[^>]* disabled>', page)
    assert page.count("This server’s engine does not have it.") == 14
    for absent in ("This server’s engine", "cannot be asked for"):
        assert absent not in other
    assert re.search("<b>other</b> cannot be asked for. The engine of this server does not have it.", page)


def test_what_a_model_sets_and_the_engine_lacks_is_off_and_nobody_is_refused_for_it(models, tmp_path):
    assert dict(find_model(models, "storyteller").defaults)["dry_multiplier"] > 0
    engine = FakeEngine(Capabilities(), loaded=("storyteller",))
    with closing(engine), closing(serving(models, tmp_path, engine)) as server:
        page = html.unescape(server.visitor.get("/").text)
        assert '"temperature": 0.8' in re.search("""data-defaults='({"max_new_tokens[^']*)""", page)[1]
        assert re.search(r'name="dry_multiplier" value="" placeholder="0"', page)
        for preset in ("", "model"):
            run = server.visitor.start(model="storyteller", preset=preset, max_new_tokens=5)
            server.finish(run)
            options = server.visitor.json(run)["options"]
            assert (options["temperature"], options["dry_multiplier"]) == (0.8, 0)
            assert len(server.visitor.json(run)["samples"][0]["tokens"]) == 5
        told = server.visitor.post("/v1/completions", json={"prompt": "the old king", "max_tokens": 5})
        assert told.json["usage"]["completion_tokens"] == 5
        refused(server, "/runs", prompt="the old king", model="storyteller", dry_multiplier="0.8")


def test_a_precision_that_nobody_told_is_said_to_be_untold(plain, run, monkeypatch):
    assert "<dt>Precision</dt><dd>float32 on cpu</dd>" in plain.visitor.get(run).text
    plain.change(run, precision=None, device=None)
    assert "<dt>Precision</dt><dd>not told by this engine</dd>" in plain.visitor.get(run).text
    plain.change(run, precision="float32", device="cpu")


def test_a_comparison_that_nobody_can_read_for_is_refused(models, tmp_path):
    engine = FakeEngine(Capabilities(), loaded=("tiny", "other"))
    with closing(engine), closing(serving(models, tmp_path, engine)) as server:
        run = server.write(max_new_tokens=5)
        assert "Write beside this" in server.visitor.get(run).text
        assert "cannot only read one" in refused(server, f"{run}/shift", model="other")
        beside = server.visitor.post(f"{run}/beside", data={"model": "other"}).headers["Location"]
        page = server.visitor.get(beside).text
        assert "What moved" not in page
        assert "The rank is not told by this engine." in page


def test_a_form_that_names_no_model_takes_one_that_is_there(models, tmp_path):
    engine = FakeEngine(Capabilities(), loaded=("other",))
    with closing(engine), closing(serving(models, tmp_path, engine)) as server:
        run = server.visitor.start(model="")
        server.finish(run)
        assert server.visitor.json(run)["model"] == "other"


def test_no_page_breaks(plain, run):
    visitor = plain.visitor
    again = {action: visitor.post(f"{run}/{action}").headers["Location"] for action in ("retry", "continue")}
    forked = visitor.post(f"{run}/fork", data={"sample": "0", "place": "3"}).headers["Location"]
    several = visitor.start(samples=3, max_new_tokens=12)
    for one in (*again.values(), forked, several):
        finished(plain.log(one))
    plain.do("save")
    token = json.loads(visitor.get(f"{run}.json").text)["samples"][0]["tokens"][2]["alternatives"][1]["id"]
    chosen = visitor.post(f"{run}/fork", data={"sample": "0", "place": "2", "token": str(token)}).headers["Location"]
    plain.finish(chosen)
    for one in (run, forked, several, chosen, *again.values()):
        for path in ("", ".txt", ".json", ".png", "/events", "/plain", "/embed", "/token?sample=prompt&place=1"):
            assert visitor.get(one + path).status_code == 200, one + path
    for path in (
        "/",
        "/busy",
        "/runs",
        "/models/tiny",
        "/models/other",
        "/readyz",
        f"/?parent={run[3:]}",
        "/runs.jsonl",
    ):
        assert visitor.get(path).status_code == 200, path


def test_a_full_line_is_told_before_and_after_a_run_is_sent(plain, monkeypatch):
    monkeypatch.setattr(type(plain.state.engine), "outlook", Outlook(4, 64, None, True))
    assert "the line is full" in plain.visitor.get("/busy").text
    assert plain.visitor.post("/runs", data={"prompt": "x", "model": "tiny"}).status_code == 503


def test_without_an_engine_nothing_that_needs_one_is_offered(models, tmp_path):
    server = serving(models, tmp_path, None)
    with closing(server):
        page = server.visitor.get("/").text
        assert "How surprising is my text?" not in page
        assert "not served" not in page
        assert "no engine" in refused(server, "/runs", prompt="x", model="tiny")


def test_a_run_goes_on_at_another_server_whose_engine_has_other_noise(models, tmp_path):
    """Its tokens stay, and the text is whole; that it says what it would have said is not promised."""
    first, second = FakeEngine(Capabilities()), FakeEngine(Capabilities())
    servers = serving(models, tmp_path, first), serving(models, tmp_path, second)
    with closing(first), closing(second), closing(servers[0]) as here, closing(servers[1]) as there:
        run = here.visitor.start(max_new_tokens=200)
        until_written(here.log(run), 9)
        here.do("save")
        before = [token["id"] for token in here.visitor.json(run)["samples"][0]["tokens"]][:9]
        first.close()
        here.do("save", "release")
        with closing(Reader(there, run)) as reader:
            there.do("take_over")
            there.finish(run)
            reader.until("done")
        sample = there.visitor.json(run)["samples"][0]
    assert [token["id"] for token in sample["tokens"]][:9] == before
    assert (len(sample["tokens"]), sample["finish_reason"]) == (200, "length")
