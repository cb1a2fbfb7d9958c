"""The preview card of a run: its text in two inks on a sheet of paper, a picture that chats show beside a link.

Here is what is drawn, and how much of the text fits at which size; `words` makes words of characters.
"""

import logging
from bisect import bisect_left, bisect_right
from io import BytesIO
from itertools import accumulate, groupby

from PIL import Image, ImageDraw

from generate import N_, Refusal, gettext
from webapp.views.card.clusters import tidy
from webapp.views.card.directions import MARKS, in_display, way
from webapp.views.card.typefaces import BOX_WIDTH, SMALLEST, Ink, face, measured
from webapp.views.card.words import Stretch, Word, dots, words

log = logging.getLogger(__name__)

PERSON, MODEL, QUIET = Ink("#1c1915", 620), Ink("#a31621", 400), Ink("#665f54", 400)
PAPER, SHEET, HAIRLINE = "#f4f0e7", "#fdfbf6", "#dfd7c8"

SIZE = (1200, 630)  # px, as are all below
EDGES = (44, 44, 1156, 536)  # of the sheet: left, top, right, bottom
MARGINS = (76, 62)  # inside the sheet: left and right, top and bottom
LEFT, RIGHT = EDGES[0] + MARGINS[0], EDGES[2] - MARGINS[0]  # of the text
ROOM = (RIGHT - LEFT, EDGES[3] - EDGES[1] - 2 * MARGINS[1])
SIZES = (72, 64, 56, 49, 43, 38, 34, SMALLEST)  # of the type
LEADING, CAPITAL, DESCENT = 1.42, 0.67, 0.25  # em: from line to line, over the baseline, under it

BLACK, RED = N_("You write in black,\n"), N_("the model goes on in red.")

MOST = 1300  # characters of each half that are looked at, or 520 Chinese ones; whatever they are, fewer fit


def draw_card(parts: list[tuple[str, bool]], footer: str) -> bytes:
    """A PNG of 1200 x 630 px. `parts` are texts in order, True where the model wrote; `footer` is a quiet line below.

    Any text will do; what does not fit is cut. Refusal: the typefaces from npm are not there.
    """
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle(EDGES, 6, SHEET, HAIRLINE, 2)
    try:
        size, lines = arranged(parts)
        height = (CAPITAL + (len(lines) - 1) * LEADING) * size
        first = (EDGES[1] + EDGES[3] - height) / 2 + CAPITAL * size
        for number, line in enumerate(lines):
            to_the_left = bool(line) and line[0].base == 1
            x, baseline = RIGHT if to_the_left else LEFT, first + number * LEADING * size
            draw_line(draw, x, baseline, line, size, from_right=to_the_left)
        draw_foot(draw, tidy(footer).replace("\n", " ").strip()[:200])
    except OSError as error:
        log.error("The card's typefaces cannot be read (%s); run `npm ci` once (make run does it).", error)
        raise Refusal("This server cannot draw pictures just now: its typefaces cannot be read.") from None
    file = BytesIO()
    image.save(file, "PNG", compress_level=4)
    return file.getvalue()


def draw_foot(draw: ImageDraw.ImageDraw, footer: str) -> None:
    """The wordmark on the left, the footer on the right, under the sheet and in line with its text."""
    draw_line(draw, LEFT, 595, words([("R", Ink(MODEL.colour, 620)), ("ubric", PERSON)]), 34)
    draw_line(draw, RIGHT, 595, clipped(words([(footer, QUIET)]), 26), 25, from_right=True)


def draw_line(
    draw: ImageDraw.ImageDraw, x: float, baseline: float, line: list[Word], size: int, from_right: bool = False
) -> None:
    """Draw words from `x` on, or up to `x` where it is their right edge, in the order of display."""
    runs = displayed(line)
    widths = [measured(*run, size) * size for run in runs]
    x -= sum(widths) if from_right else 0
    for run, width in zip(runs, widths, strict=True):
        if run.file:
            font = face(run.file, size, run.ink.weight)
            draw.text((x, baseline), run.text, run.ink.colour, font, anchor="ls", direction=way(run.level))
        else:
            for place in range(len(run.text)):
                left, right = x + (place * BOX_WIDTH + 0.08) * size, x + ((place + 1) * BOX_WIDTH - 0.08) * size
                box = (left, baseline - CAPITAL * size, right, baseline)
                draw.rectangle(box, outline=run.ink.colour, width=max(2, size // 20))
        x += width


def displayed(line: list[Word]) -> list[Stretch]:
    """A line's pieces from left to right; neighbours of one ink, typeface and level are one. Spaces end no line."""
    line = line[: next((end for end in range(len(line), 0, -1) if not line[end - 1].blank), 0)]
    alike = groupby((run for word in line for run in word.runs), key=lambda run: run[1:])
    runs = [Stretch("".join(run.text for run in same), *kind) for kind, same in alike]
    return [runs[place] for place in in_display([run.level for run in runs])]


# What fits


def arranged(parts: list[tuple[str, bool]]) -> tuple[int, list[list[Word]]]:
    """The type's size in px and the lines: the largest size at which all fits, else the smallest and a cut text."""
    head, tail = halves(parts)
    start, end = bounded(head, from_end=bool(tail)), bounded(tail)
    cut_before, cut_after = bool(tail) and start != head, end != tail or (not tail and start != head)
    row = words(start + end, opening_of(head, start) if cut_before else "")
    widest = max((word.width for word in row), default=0)
    for size in SIZES:
        room, most = ROOM[0] / size, 1 + int((ROOM[1] / size - CAPITAL - DESCENT) / LEADING)
        lines = broken(row, room)
        if len(lines) <= most and widest <= room and not (cut_before or cut_after):
            return size, balanced(row, room, lines)
    if start and end:
        seam = len(words(start))
        row = shortened(row[:seam], row[seam:], room, most, cut_before) + row[seam:]
        lines = broken(row, room)
    if len(lines) > most or cut_after:
        lines = lines[:most]
        while len(lines) > 1 and not lines[-1]:
            lines.pop()
        lines[-1] = clipped(lines[-1], room, always=True)
    return size, lines


def halves(parts: list[tuple[str, bool]]) -> tuple[list[tuple[str, Ink]], list[tuple[str, Ink]]]:
    """What was before the last continuation, and that (or nothing), tidy; our own words where there is no text."""
    inked = [(tidy(text), MODEL if by_model else PERSON) for text, by_model in parts]
    seen = [place for place, (text, _) in enumerate(inked) if text.strip().strip(MARKS)]
    if not seen:
        return [(gettext(BLACK), PERSON)], [(gettext(RED), MODEL)]
    inked = inked[seen[0] : seen[-1] + 1]
    inked[0] = (inked[0][0].lstrip(), inked[0][1])
    inked[-1] = (inked[-1][0].rstrip(), inked[-1][1])
    seam = len(inked)
    while seam and inked[seam - 1][1] == MODEL:
        seam -= 1
    return inked[:seam], inked[seam:]


def bounded(parts: list[tuple[str, Ink]], from_end: bool = False) -> list[tuple[str, Ink]]:
    """The first characters of parts, or the last: more than fit, and few enough to be measured in no time."""
    kept, room = [], MOST
    for text, ink in reversed(parts) if from_end else parts:
        near = text[: -room - 1 : -1] if from_end else text[:room]
        counts = list(accumulate(2.5 if char >= "\u2e80" else 1 for char in near))
        some = bisect_right(counts, room)
        kept.append((text[-some:] if from_end and some else text[:some], ink))
        if some < len(text):
            break
        room -= int(counts[-1]) if counts else 0
    return kept[::-1] if from_end else kept


def opening_of(head: list[tuple[str, Ink]], end: list[tuple[str, Ink]]) -> str:
    """What stands in the head before its `end`, in the paragraph that is cut."""
    text = "".join(text for text, _ in head)
    cut = len(text) - sum(len(text) for text, _ in end)
    return text[text.rfind("\n", 0, cut) + 1 : cut]


def shortened(head: list[Word], tail: list[Word], room: float, most: int, always: bool) -> list[Word]:
    """The head without its beginning, if need be: the tail gets the lines it needs, up to half of `most`."""
    keep = most - min(len(broken(tail, room)), most // 2)
    if len(broken(head, room)) <= keep and not always:
        return head
    some = dots(PERSON, 0)
    start = bisect_left(range(len(head)), True, key=lambda start: len(broken(some + head[start:], room)) <= keep)
    while start < len(head) and head[start].blank:
        start += 1
    base = next((word.base for word in head[start:] + tail), 0)
    return dots(head[start].runs[0].ink if start < len(head) else PERSON, base) + head[start:]


def broken(row: list[Word], room: float) -> list[list[Word]]:
    """Lines of words, at most `room` em wide where a single word allows it; of empty lines in a row, one stays."""
    lines: list[list[Word]] = [[]]
    used = 0.0
    for word in row:
        newline = word.runs[0].text == "\n"
        if (newline and (lines[-1] or lines[-2:-1] != [[]])) or (used and used + word.width > room and not word.blank):
            lines.append([])
            used = 0.0
        if not newline:
            lines[-1].append(word)
            used += word.width
    return lines


def balanced(row: list[Word], room: float, lines: list[list[Word]]) -> list[list[Word]]:
    """Few lines made much the same length: as narrow as their number allows, within reason."""
    for share in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95) if len(lines) < 5 else ():
        narrower = broken(row, room * share)
        if len(narrower) == len(lines) and max(map(width_of, narrower)) <= room * share:
            return narrower
    return lines


def clipped(line: list[Word], room: float, always: bool = False) -> list[Word]:
    """A line that ends with an ellipsis where it was wider than `room` em, or `always`."""
    if not always and width_of(line) <= room:
        return line
    end = dots(line[-1].runs[-1].ink, line[-1].base) if line else dots(QUIET, 0)
    while line and (line[-1].blank or width_of(line + end) > room):
        line = line[:-1]
    return line + end


def width_of(line: list[Word]) -> float:
    """The width in em of words side by side."""
    return sum(word.width for word in line)
