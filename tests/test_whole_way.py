"""A person's whole way: rescue an old checkpoint, train it on their own words, write with it, and send a friend the link."""

import shutil
import urllib.request

import pytest
from browser import Window, serving
from conftest import make_model
from tuning import Bench
from waiting import until

from convert.__main__ import main as convert
from generate import check_folder

pytestmark = pytest.mark.long

OPTIONS = (
    "--documents", "line", "--steps", 20, "--evaluate-every", 5, "--sample-every", 10, "--sample-prompt", "the old king",
    "--sample-length", 12, "--learning-rate", 1e-3,
)  # fmt: skip


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
