"""A run's link elsewhere: its preview in a chat, its code for a phone, its frame in another page."""

import io
import re

import zxingcpp
from conftest import parse_events, pictured, text_of
from PIL import Image
from test_card import painted
from waiting import until

from generate import Outlook


def meta(html: str) -> dict[str, str]:
    return dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)">', html))


def test_a_link_has_a_title_a_description_and_a_picture_for_chats(visitor):
    run = visitor.start('The "old" king\n & his <fox>', max_new_tokens=12)
    text = visitor.finish(run)["samples"][0]["text"]
    found = meta(visitor.get(run).text)
    assert found["og:title"] == "The &#34;old&#34; king &amp; his &lt;fox&gt;…"
    assert found["og:image"] == f"http://localhost{run}.png"
    assert found["og:url"] == f"http://localhost{run}"
    assert found["twitter:card"] == "summary_large_image"
    assert found["robots"] == "noindex"
    assert pictured(text.split()[0]) in found["og:description"]


def test_the_picture_shows_both_inks_and_is_drawn_once(visitor):
    run = visitor.start("从前有一只狐狸 🦊", max_new_tokens=30)
    early = visitor.get(f"{run}.png")
    assert early.mimetype == "image/png"
    visitor.finish(run)
    answer = visitor.get(f"{run}.png")
    picture = Image.open(io.BytesIO(answer.data)).convert("RGB")
    assert picture.size == (1200, 630)
    colours = {colour for _, colour in picture.getcolors(1 << 24)}
    assert {(28, 25, 21), (163, 22, 33)} <= colours
    assert visitor.get(f"{run}.png", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_the_code_is_the_run_s_address(visitor):
    run = visitor.start("x", max_new_tokens=1)
    svg = visitor.get(f"{run}/qr.svg")
    assert svg.mimetype == "image/svg+xml"
    assert zxingcpp.read_barcodes(painted(svg.text))[0].text == f"http://localhost{run}"


def test_only_the_bare_view_may_stand_in_another_page_s_frame(visitor):
    run = visitor.start("x", max_new_tokens=1)
    framed = visitor.get(f"{run}/embed")
    assert "frame-ancestors *" in framed.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in framed.headers
    assert "<form" not in framed.text
    for path in ("/", run, f"{run}/plain", f"{run}.json", "/runs", "/nowhere"):
        headers = visitor.get(path).headers
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Frame-Options"] == "DENY", path


def test_a_frame_s_stream_carries_text_and_status_alone(visitor):
    run = visitor.start("x", max_new_tokens=30, samples=2)
    events = parse_events(visitor.get(f"{run}/events?bare").text)
    targets = set(re.findall(r'hx-target="([^"]+)"', " ".join(e["data"] for e in events)))
    assert targets == {"#sample-0", "#sample-1", "#status"}
    assert "".join(text_of(e["data"]) for e in events) == pictured(visitor.json(run)["samples"][0]["text"])


def test_a_page_tells_how_busy_the_model_is_before_anything_is_sent(app, visitor, monkeypatch):
    engine = app.extensions["rubric"].engine
    until(lambda: engine.outlook == Outlook(), what="rest, in which the engine itself says nothing new")

    def told(*outlook):
        monkeypatch.setattr(type(engine), "outlook", Outlook(*outlook))
        return re.search(r">([^<]+)</p>", visitor.get("/busy").text)[1]

    assert told(0, 0, 0.0) == "Nobody is writing; yours begins at once."
    assert told(1, 0, 0.0) == "One text is being written; there is room for yours."
    assert told(32, 0, 12.2) == "32 texts are being written; yours would begin in about 10 seconds."
    assert told(32, 1, 200.0) == "32 texts are being written and 1 waits in line; yours would begin in about 3 minutes."
    assert told(32, 40, None) == "32 texts are being written and 40 wait in line; yours would wait."
    assert told(32, 64, 9.0, True) == "32 texts are being written and the line is full; please come back in a while."
    assert 'id="busy"' in visitor.get("/").text
