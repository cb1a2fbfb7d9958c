"""Whether the first row of a table is its header, by evidence; a row that is taken for one is never trained on."""

import re
from statistics import median

USUAL = frozenset((
    "answer", "article", "author", "body", "caption", "category", "chosen", "class", "comment", "completion",
    "content", "created_at", "date", "description", "dialog", "dialogue", "document", "example", "genre", "headline",
    "id", "index", "input", "instruction", "item", "joke", "label", "language", "line", "lyrics", "message", "name",
    "no", "number", "output", "paragraph", "poem", "prompt", "question", "quote", "rating", "rejected", "response",
    "review", "score", "sentence", "source", "story", "subject", "summary", "tag", "tags", "target", "text",
    "timestamp", "title", "topic", "tweet", "type", "url", "utterance", "year",
))  # fmt: skip
NUMBER = re.compile(r"\s*[-+]?[\d.,:/-]*\d[\d.,:/ -]*%?\s*")  # also dates and times
WORDS = 3  # that a header's cell has at the most
LONGER = 3  # times as many words as the first row: what stands under a header


def has_header(rows: list[list[str]], column: str | None) -> bool | None:
    """True or False where the rows tell, None where they do not; `column` is what the person calls a column, if anything."""
    if not rows or not (column is None or column.isdecimal()):
        return True  # who names a column sees a header
    first, others = rows[0], rows[1:]
    if any(cell.strip().lower() in USUAL for cell in first):
        return True
    if any(NUMBER.fullmatch(cell) for cell in first):
        return False
    columns = [[row[n] for row in others if len(row) > n and row[n]] for n in range(len(first))]
    if any(cells and all(map(NUMBER.fullmatch, cells)) for cells in columns):
        return True  # a column of numbers under a word
    if any("\n" in cell or len(cell.split()) > WORDS or re.search(r"[.!?…。！？”\"]\s*$", cell) for cell in first):
        return False
    return True if any(map(is_longer, columns, first)) else None


def is_longer(cells: list[str], name: str) -> bool:
    """Whether what stands in a column is by far longer than its first cell."""
    counts, shortest = [len(cell.split()) for cell in cells], max(1, len(name.split()))
    return len(cells) > 1 and min(counts) > shortest and median(counts) >= LONGER * shortest
