"""README.zh.md is README.md in Chinese: whatever is added to one, or moved in it, must be done in the other."""

import re

import pytest
from conftest import ROOT

from generate import SETTINGS
from webapp.views.readme import rendered

ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh.md"))
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HAN = "[\u3400-\u9fff]"


def prose(text: str) -> str:
    return FENCE.sub("", text)


def levels(text: str) -> list[int]:
    """How deep each heading is."""
    return [len(found[1]) for found in re.finditer(r"^(#+) \S", prose(text), re.M)]


def blocks(text: str) -> list[str]:
    return FENCE.findall(text)


def links(text: str) -> list[str]:
    """Where links and pictures lead, but for those from one README to the other."""
    return [target for target in LINK.findall(prose(text)) if target not in (ENGLISH.name, CHINESE.name)]


def bullets(text: str) -> list[int]:
    """How many points there are under each heading."""
    return [len(re.findall(r"^- ", part, re.M)) for part in re.split(r"^#+ .*$", prose(text), flags=re.M)]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables that are code or numbers, which are the same in any language."""
    cells = [line.strip("|").split("|") for line in prose(text).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row if re.fullmatch(r"`[^`]*`|[-\d,. ]*", cell.strip())] for row in cells]


@pytest.mark.parametrize("what", [levels, blocks, links, bullets, rows])
def test_both_readmes_have_the_same_parts_in_the_same_order(what):
    english, chinese = (what(file.read_text("utf-8")) for file in (ENGLISH, CHINESE))
    assert english
    assert chinese == english, f"change {ENGLISH.name} and {CHINESE.name} together"


def test_each_leads_to_the_other_before_it_says_anything():
    for file, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        assert LINK.findall(file.read_text("utf-8"))[0] == other.name


def test_the_chinese_one_names_every_setting_with_its_default():
    chinese = CHINESE.read_text("utf-8")
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default != "" else ""
        assert f"| `{setting.name}` | {default} | " in chinese


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (rf"{HAN}[A-Za-z0-9`]|[A-Za-z0-9`%]{HAN}", "a space stands between Chinese and Latin letters"),
        (rf"{HAN}[,;:?!()]|[,;:?!(]{HAN}|{HAN}\.(?!\w)", "beside Chinese stand Chinese signs"),
        (rf"{HAN} {HAN}| [，。；：？！]", "no space stands between Chinese characters, nor before their signs"),
        (rf"{HAN}\n{HAN}", "a line break within a paragraph would be shown as a space"),
    ],
)
def test_chinese_is_set_as_chinese(wrong, why):
    text = prose(CHINESE.read_text("utf-8"))
    assert re.findall(f".{{0,9}}(?:{wrong}).{{0,9}}", text) == [], why


def test_what_is_bold_in_it_is_bold_when_it_is_shown():
    """Behind a Chinese sign two stars end nothing unless a space follows."""
    shown = re.sub("<(code|pre)>.*?</\\1>", "", rendered(CHINESE.read_text("utf-8")), flags=re.S)
    assert "<strong>" in shown
    assert "*" not in shown
