"""A model's README as HTML that can do nothing: what it says in Markdown, without scripts, pictures, or addresses of this
server."""

from functools import lru_cache
from pathlib import Path

import nh3
from markdown_it import MarkdownIt

FILE = "README.md"
LARGEST = 40_000  # bytes that are read of it; a stranger may have made each as dear as can be, a second for all
FENCE = "---"  # between two lines of it stands what the hub's cards begin with, for programs
DEEPER = 1  # its headings stand below the page's own
TAGS = {
    *("p", "br", "hr", "em", "strong", "code", "pre", "blockquote", "ul", "ol", "li", "a", "del"),
    *("table", "thead", "tbody", "tr", "th", "td", "h2", "h3", "h4", "h5", "h6"),
}
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def find_readme(folder: Path) -> str:
    """The README of a model's folder as safe HTML; "" where there is none."""
    file = folder / FILE
    try:
        there = file.stat()
        return made_of(file, there.st_mtime_ns, there.st_size)
    except OSError:
        return ""


@lru_cache(64)
def made_of(file: Path, _mtime_ns: int, _size: int) -> str:
    """The same of a file, made anew when it was changed; raises OSError."""
    with file.open("rb") as stream:
        return rendered(stream.read(LARGEST).decode("utf-8", "replace"))


def rendered(text: str) -> str:
    """Markdown as safe HTML. Links lead to other sites alone, and tell them nothing of this one."""
    tokens = MARKDOWN.parse(without_front(text.replace("\r\n", "\n")))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + DEEPER)}"
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    return nh3.clean(
        html,
        tags=TAGS,
        attributes={"a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        attribute_filter=outward,
        link_rel="nofollow noopener noreferrer",
    )


def without_front(text: str) -> str:
    """The same without what stands between fences at its beginning. It goes from line to line, as a README is a stranger's
    and a pattern over it all may take minutes."""
    first, *lines = text.split("\n")
    if first.rstrip() != FENCE:
        return text
    end = next((place for place, line in enumerate(lines) if line.rstrip() == FENCE), None)
    return text if end is None else "\n".join(lines[end + 1 :])


def outward(tag: str, attribute: str, value: str) -> str | None:
    """Leaves out links that would lead to a page of this server."""
    return value if attribute != "href" or value.startswith(("http://", "https://", "mailto:")) else None
