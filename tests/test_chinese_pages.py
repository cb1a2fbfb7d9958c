"""In Chromium with zh-CN: no English word on any page, but names, what people and models wrote, and what programs read."""

import re

import pytest
from browser import opened, unfold
from operating import operator_cookie
from test_accessibility import OF_THE_OPERATOR, PATHS, private, server, visiting  # noqa: F401 - a fixture
from waiting import until

from generate import LISTS, OPTIONS

pytestmark = pytest.mark.long

NAMES = {
    *(
        "Rubric",
        "GPT-2",
        "OpenAI",
        "API",
        "Python",
        "TensorFlow",
        "PyTorch",
        "Prometheus",
        "ms",
        "transformers",
        "nanoGPT",
        "GGUF",
        "README",
    ),
    *(
        "Hugging",
        "Face",
        "Hub",
        "nshepperd",
        "gpt-2-simple",
        "storyteller",
    ),
    *("English", "token", "nat", "MB", "GB", "kB", "UTC", "QR", "JSON", "CSV", "TSV", "Parquet", "Cookie"),
    *("Ctrl", "Alt", "Enter", "Esc", "Escape", "Tab", "HOST", "PUBLIC_URL", "UNK", "DRY", "XTC"),
    *(
        "float32",
        "bfloat16",
        "int8",
        "float16",
        "cpu",
        "cuda",
        "sha256",
        "logit",
        "id",
        "min_p",
        "BERT",
        "LoRA",
    ),
    *(
        "gzip",
        "zip",
        "tar",
        "npz",
        "bos",
        "eos",
        "pad",
        "utf-8",
        "JOKE",
    ),
    *(
        "Beta",
        "Dropout",
    ),
    *("encoder", "json", "vocab", "bpe", "tokenizer", "meta", "pkl", "gz", "ckpt", "pt", "pytorch_model", "bin", "txt"),
}
TECHNICAL = {option.name for option in OPTIONS + LISTS} | {"parse_special", "include_usage", "token_id", "max_tokens"}
TECHNICAL |= {
    "endoftext",
    "OpenAPI",
    "completions",
    "lm-evaluation-harness",
    "png",
    "bit",
    "false",
    "gpt2-medium",
    "hot",
}
WHOLE = ("Page Up", "Page Down", "JSON Lines", "horse = -5", "JOKE: {text}", "file、line、blank-line")  # as they stand
MODELS = re.compile(
    r"(?<![A-Za-z] )\b(tiny|other|slow|broken|trained)\b(?! [A-Za-z])"
)  # of this server, in no English phrase
PRESETS = {"nshepperd", "gpt-2-simple", "summaries", "wikitext", "jokes", "blocks"}
# what is on a page for people to read, in sight or to be heard, but for texts, code and what says that it is in English
READ = """() => {
  const apart = '.story, .cm-content, noscript, h1[dir], .versions a, .example, textarea, #suggestions, .trained, .bars,  code, pre, kbd, script, style, [lang="en"], [lang=""], .readme, .token-name, .name, '
    + 'select[name=model] option, .chip, .address, .near, .typed, svg.curve .step, svg.curve .loss, bdi, .moved-most th, .wordmark, .fold, form.teach option';
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
    if (element.closest(apart)) continue;
    if (node.nodeType === Node.TEXT_NODE) found.push(node.data);
    else for (const name of ['title', 'aria-label', 'placeholder', 'alt', 'data-title', 'data-unit', 'aria-valuetext']) {
      if (node.hasAttribute(name)) found.push(node.getAttribute(name));
    }
  }
  const title = document.querySelector('.story') ? [] : [document.title]; // which may be a text's beginning
  return [...title, ...found].map(text => text.trim()).filter(Boolean);
}"""


def english_words(page) -> list[str]:
    """What is told on a page with a word in it that is no name, addresses and numbers left out."""
    found = []
    for text in page.evaluate(READ):
        for whole in WHOLE:
            text = text.replace(whole, " ")
        bare = re.sub(
            r"https?://\S+|/[\w./-]+|“[^”]*”|‹[^›]*›|\b[0-9a-f]{8,}\b|(?<![\w-])\d[\w.-]*|'[^']*'|[\w-]+\.(png|txt|json|css|bin)\b",
            " ",
            MODELS.sub(" ", text),
        )
        if words := [
            w for w in re.findall(r"[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]", bare) if w not in NAMES | PRESETS | TECHNICAL
        ]:
            found.append(f"{' '.join(words)}: {text[:120]}")
    return sorted(set(found))


@pytest.fixture(scope="module")
def visit(browser, server):  # noqa: F811
    """A visitor whose browser asks for Chinese."""
    with visiting(browser, server, "从前有一只狐狸", "一张稿纸", locale="zh-CN") as visit:
        yield visit


def assert_chinese(page) -> None:
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    assert not (found := english_words(page)), "\n".join(found)


@pytest.mark.parametrize("path", [*PATHS, "/v1"])
def test_no_page_has_an_english_word_but_names(visit, path):
    visit.page.goto(visit.url + path.format(**visit.runs))
    page = visit.page
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert_chinese(page)


@pytest.mark.parametrize("path", OF_THE_OPERATOR)
def test_no_page_of_the_operator_s_has_one(visit, server, path):  # noqa: F811
    name, value = operator_cookie(server.folder / "instance")
    visit.window.context.add_cookies([{"name": name, "value": value, "url": server.url}])
    visit.page.goto(visit.url + path.format(**visit.runs))
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    found = english_words(visit.page)
    visit.window.context.clear_cookies(name=name)
    assert not found, "\n".join(found)


def test_the_page_that_asks_for_the_password_has_none(visit, server):  # noqa: F811
    with private(server):
        visit.page.goto(visit.url + "/runs")
        assert "密码" in visit.page.inner_text("label")
        assert_chinese(visit.page)


def test_a_sheet_that_is_written_on_has_none(visit):
    """The bar, the panel of a word, suggestions, versions, a refusal, the dialog for sharing."""
    page = visit.page
    visit.window.type("从前有一只狐狸", "/?model=tiny&max_new_tokens=12&seed=1")
    page.keyboard.press("Control+Enter")
    visit.window.wait_until_written()
    assert_chinese(page)
    page.keyboard.press("Tab")
    page.wait_for_selector("#suggestions li")
    assert_chinese(page)
    page.keyboard.press("Escape")
    unfold(page)
    assert_chinese(page)
    page.fill("[name=temperature]", "hot")
    page.click("#write-on")
    page.wait_for_selector(".said")
    assert "有多大胆：temperature 必须是 0 到 5 的数" in page.inner_text(".said")
    page.click("[data-share]:visible")
    page.wait_for_selector("dialog .ways")
    assert_chinese(page)


def test_a_run_that_is_being_written_tells_so_in_chinese(visit):
    run, page = visit.start(model="slow", max_new_tokens="4096", samples="2"), visit.page
    page.goto(f"{visit.url}/r/{run}")
    until(lambda: len(visit.window.story()) > 20)
    assert page.inner_text("#status") == "正在写……"
    assert_chinese(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#tools >> text=重写")
    assert "写了" in page.inner_text("#ending-0")
    assert_chinese(page)


def test_the_switch_works_without_a_script(browser, server):  # noqa: F811
    with opened(browser, server, locale="zh-CN", java_script_enabled=False) as window:
        window.page.goto(f"{server.url}/runs?q=fox")
        window.page.click(".foot button")
        assert window.page.url == f"{server.url}/runs?q=fox"
        assert window.page.locator("h1").inner_text() == "Your sheets"
        assert window.page.locator(".foot button").inner_text() == "中文"
