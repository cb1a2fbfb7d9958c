"""A person's whole way: rescue an old checkpoint, train on their own words, write with that, and send a friend the link; at
a terminal, and in the page alone."""

import shutil
import urllib.request

import pytest
from browser import Window, opened, serving
from conftest import MODELS, make_model
from dropping import archive_without_vocabulary, drop
from operating import link_of
from tuning import Bench
from waiting import until

from convert.__main__ import main as convert
from generate import check_folder

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

OPTIONS = (
    "--documents", "line", "--steps", 20, "--evaluate-every", 5, "--sample-every", 10, "--sample-prompt", "the old king",
    "--sample-length", 12, "--learning-rate", 1e-3,
)  # fmt: skip
TALE = "Then the little tin soldier said to the lamp: shine, lamp, shine! And the lamp shone.\n"
FEW_STEPS = {"documents": "line", "steps": "16", "block_size": "128", "learning_rate": "0.001"}
FEW_STEPS |= {"sample_every": "0", "evaluate_every": "8"}
BEGINNING = "Then the little tin soldier said"
PATIENCE = 300_000  # milliseconds
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A TensorFlow checkpoint with its vocabulary beside it, as somebody kept it for years."""
    old = tmp_path_factory.mktemp("old")
    made = make_model(old / "tiny", seed=1)
    assert convert(["--to-tf", str(made), str(old / "run1")]) == 0
    return old / "run1"


@pytest.fixture(scope="module")
def server(tmp_path_factory, models, checkpoint):
    assert convert([str(checkpoint), str(models / "rescued")]) == 0
    with serving(tmp_path_factory.mktemp("server"), models, RUBRIC_MODEL="rescued") as server:
        yield server


def offered(page) -> list[str]:
    return page.locator("[name=model] option").all_inner_texts()


def test_from_an_old_checkpoint_to_a_link_that_a_friend_reads(browser, server, models, tmp_path):
    window = Window(browser, server)
    page = window.page
    page.goto(server.url)
    assert not any("friends" in name for name in page.content().split("<option")[1:])
    bench = Bench(tmp_path, models / "rescued")
    shutil.move(bench.made("friends", *OPTIONS), models / "friends")  # from another disk than the one it is served from

    page.goto(server.url + "/models/friends")
    assert page.locator("h1").inner_text() == "friends"
    told = page.inner_text("main")
    assert "Trained from rescued on friends.txt" in told
    assert "Perplexity on held-out text went from" in told
    assert page.locator("svg[role=img] polyline").count() == 2, "the loss while training, and on held-out text"
    assert page.locator(".story .prompt").first.inner_text() == "the old king"

    page.click("text=Write with it")
    url = window.write("the old king", model="friends", max_new_tokens=15)
    window.wait_until_over()
    stored = window.stored(url)
    assert stored["model"] == "friends"
    assert stored["fingerprint"] == check_folder(models / "friends").fingerprint()
    assert stored["prompt"]["text"] == "the old king"
    assert len(stored["samples"][0]["tokens"]) == 15

    friend = Window(browser, server)
    friend.page.goto(url)
    until(lambda: friend.story() == window.story())
    assert "friends" in friend.page.text_content("main")
    assert stored["samples"][0]["text"] in urllib.request.urlopen(url + ".txt").read().decode()
    assert window.errors == friend.errors == []


def bring(page, archive) -> str:
    """Drop an archive, answer what is asked, and read what the certificate says."""
    page.click("text=Bring a model")
    drop(page, archive.name, archive.read_bytes())
    page.wait_for_selector("text=It is here.")
    page.click("button:text('Bring it')")
    page.wait_for_selector("text=Whose vocabulary has it?", timeout=PATIENCE)
    page.click("button[type=submit]:text('Go on')")
    return page.wait_for_selector(".verdict", timeout=PATIENCE).inner_text()


def teach(page, text) -> None:
    """Let the storyteller learn a text, each line of which is a document, in a few steps, and take up what comes of it."""
    page.click("text=Teach a model")
    page.fill("textarea", text)
    page.select_option("[name=model]", "storyteller")
    page.fill("[name=makes]", "soldier")
    page.click("text=Presets, and the rest")
    for name, value in FEW_STEPS.items():
        page.fill(f"[name={name}]", value)
    page.click("text=Look at it")
    page.click("button:text('Train')", timeout=PATIENCE)
    page.wait_for_selector(".came:text('Perplexity on held-out text went from')", timeout=PATIENCE)
    page.click("text=Write with it", timeout=PATIENCE)


@pytest.mark.parametrize("screen", [{}, PHONE], ids=["wide", "phone"])
def test_from_a_dropped_archive_to_a_link_that_a_friend_reads_without_a_terminal(browser, tmp_path, screen):
    models, archive = tmp_path / "models", archive_without_vocabulary(tmp_path / "old")
    shutil.copytree(MODELS / "storyteller", models / "storyteller")
    with serving(tmp_path, models, RUBRIC_NICE="0") as server, opened(browser, server, **screen) as window:
        page = window.page
        window.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(link_of(server))
        page.wait_for_url(f"{server.url}/workshop")
        assert bring(page, archive) == check_folder(models / "checkpoint_run1").certificate()["verdict"]

        page.click("text=Workshop")
        teach(page, TALE * (100_000 // len(TALE)))
        assert [name.split()[0] for name in offered(page)] == ["checkpoint_run1", "soldier", "storyteller"]
        assert check_folder(models / "soldier").training()["steps"] == 16

        window.type(BEGINNING, "/?model=soldier&max_new_tokens=30")
        page.click("#write-on")
        written = window.wait_until_written()["samples"][0]["text"]
        assert "lamp" in written, "it writes what it was taught"

        page.click(".acts .sharing")
        page.check("dialog [value=version]")
        page.click("dialog button:has-text('Copy link'):visible")
        until(lambda: page.inner_text("dialog .copied") != "", what="a word that it was copied")
        with opened(browser, server) as friend:
            friend.page.goto(page.evaluate("navigator.clipboard.readText()"))
            assert friend.page.inner_text(".prompt") == BEGINNING
            assert friend.story() == written
            assert "soldier" in friend.page.text_content("main")
            assert friend.page.query_selector("text=Workshop") is None, "the workshop is the operator's alone"
