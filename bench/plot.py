"""The plot: tokens/s of every contender as an SVG, a column for each model and a group of bars for each batch size.

Bars are to scale within their group alone, since 32 rows write ten times what one does; the figure stands at each bar.
"""

from html import escape
from pathlib import Path

from bench.contest import BARE, FLOOR

RED, GREYS, LINE, INK, QUIET = "#b3261e", ("#6f6b66", "#a39f99", "#c9c5be"), "#d9d5ce", "#2b2926", "#76716a"
REDS = {"int8": RED, "bfloat16": "#cf6a64", "float32": "#e4a9a5"}
FAMILIES = ("CTranslate2", "HF", "llama.cpp")
BAR, STEP, GROUP, LABEL, WIDTH, GUTTER, MARGIN, TOP = 13, 18, 34, 118, 190, 64, 28, 84
STYLE = """
text { font: 12px Inter, "Helvetica Neue", Arial, sans-serif; fill: %s }
text { paint-order: stroke; stroke: #fffdf9; stroke-width: 3px }
.title { font: 20px "Source Serif 4", Georgia, serif }
.model { font: 15px "Source Serif 4", Georgia, serif }
.quiet { fill: %s; font-size: 11px }
.ours { fill: %s }
""" % (INK, QUIET, RED)  # noqa: UP031  (CSS is full of braces)


def plot(results: dict) -> str:
    """The whole SVG."""
    cells = [cell for cell in results["cells"] if cell["contender"] != BARE]
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    column = LABEL + WIDTH + GUTTER
    panels = [panel([cell for cell in cells if cell["model"] == model]) for model in models]
    width = max(2 * MARGIN + column * len(models), 640)
    height = TOP + max((size for _, size in panels), default=0) + 2 * MARGIN
    m = results["machine"]
    note = f"{m['cpu']}, one thread; torch {m['torch']}; {m['date']}; rounds: {results['rounds']}."
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>Tokens per second while decoding</title><style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fffdf9"/>',
        text(MARGIN, 42, "Tokens per second while decoding", "title"),
        text(
            MARGIN,
            62,
            "Same weights, prompts and sampling. Bars are to scale within a group; dotted: the matrix products alone.",
            "quiet",
        ),
        *(f'<g transform="translate({MARGIN + column * n} {TOP})">{body}</g>' for n, (body, _) in enumerate(panels)),
        text(MARGIN, height - MARGIN / 2, note, "quiet"),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(cells: list[dict]) -> tuple[str, float]:
    """One model's groups, and how high they are."""
    y, parts = 20, [text(0, 16, cells[0]["model"], "model")]
    for batch in dict.fromkeys(cell["batch"] for cell in cells):
        rows = sorted((cell for cell in cells if cell["batch"] == batch), key=rank)
        floor = next((row["tokens_per_s"] for row in rows if row["contender"] == FLOOR), None)
        rows = [row for row in rows if row["contender"] != FLOOR]
        scale = WIDTH / max([floor or 0, *(row["tokens_per_s"] for row in rows)])
        parts.append(text(0, y + 20, "one row" if batch == 1 else f"{batch} rows", "quiet"))
        y += 28
        bottom = y + STEP * len(rows) - 2
        parts.append(f'<path d="M{LABEL} {y - 3}V{bottom}" stroke="{LINE}"/>')
        if floor:
            x = LABEL + floor * scale
            parts.append(f'<path d="M{x:.1f} {y - 3}V{bottom}" stroke="{QUIET}" stroke-dasharray="2 2"/>')
        for row in rows:
            parts.append(bar(y, row, scale))
            y += STEP
        y += GROUP - 28
    return "\n".join(parts), y


def rank(row: dict) -> tuple:
    """Ours first, then families; the fastest of each first."""
    family = next((n for n, name in enumerate(FAMILIES) if row["contender"].startswith(name)), -1)
    return family, -row["tokens_per_s"]


def bar(y: float, row: dict, scale: float) -> str:
    name, value = row["contender"], row["tokens_per_s"]
    ours, length = name.startswith("ours"), value * scale
    colour = REDS[name.split()[1]] if ours else GREYS[rank(row)[0]]
    figure = f"{value:,.0f}"
    return (
        text(LABEL - 8, y + 11, name, "ours" if ours else "", "end")
        + f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="1.5" fill="{colour}"/>'
        + text(LABEL + length + 6, y + 11, figure, "ours" if ours else "quiet")
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def write(results: dict, file: Path) -> None:
    file.write_text(plot(results), "utf-8")
