"""What is printed: tables in Markdown, so that they can be pasted."""

from collections.abc import Iterable


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """`head` names the columns, separated by `|`; all are as wide as their widest cell."""
    lines = [[cell.strip() for cell in head.split("|")], *([*row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "" if value is None else f"{value:,.{digits}f}{unit}"


def measured(row: dict, key: str, digits: int = 0, unit: str = "") -> str:
    """A figure, and how far its rounds lie from it at the most."""
    apart = row.get(f"{key}_spread")
    return number(row.get(key), digits, unit) + ("" if apart is None else f" ±{100 * apart:.0f} %")


def heading(m: dict, rounds: int, threads: int) -> str:
    each = "One thread each" if threads == 1 else f"{threads} threads each"
    many = (
        f"medians of {rounds} rounds, ± the furthest of them"
        if rounds > 1
        else "one round only, so a busy moment shows"
    )
    return (
        f"{m['date']}. {m['cpu']}, {m['cores']} cores ({m['instructions']}); torch {m['torch']}, Python {m['python']}\n"
        f"{each}, passive waiting, in turns; {many}. Load before: {number(m['load_before'], 2)}"
    )


def neighbours(cores: float) -> str:
    quiet = "a quiet machine" if cores < 0.1 else "so mind the figures: even in turns, not everybody met the same"
    return f"\nOthers kept {number(cores, 2)} cores busy meanwhile: {quiet}."


def cells(model: str, rows: list[dict], bounds: dict[str, float]) -> str:
    head = "model | batch | contender | tokens/s | step | first token | whole, tokens/s | memory | against HF float32"
    lines = (
        [
            row["model"],
            str(row["batch"]),
            row["contender"],
            measured(row, "tokens_per_s"),
            number(row["step_ms"], 2, " ms"),
            measured(row, "first_ms", 0, " ms"),
            measured(row, "whole_tokens_per_s"),
            number(row.get("memory_mb"), 0, " MB"),
            number(row.get("ratio"), 2),
        ]
        for row in rows
    )
    once = ", ".join(f"{name} {number(ms, 2)} ms" for name, ms in bounds.items())
    prefill = ", ".join(f"{r['contender']} {number(r['prefill_ms'])} ms" for r in rows if "prefill_ms" in r)
    notes = [f"Weights of {model} read once by one thread: {once}."]
    notes += [f"Prefill of 512 tokens: {prefill}."] if prefill else []
    return "\n".join(["", table(head, lines), "", *notes])


def served(rows: list[dict]) -> str:
    head = "model | precision | viewers | tokens/s | alone | ratio | steady ratio | "
    head += "first p50 | p95 | gap p50 | p99 | /healthz p99 | viewers took"
    times = ("first_p50_ms", "first_p95_ms", "gap_p50_ms", "gap_p99_ms", "healthz_p99_ms")
    lines = (
        [
            row["model"],
            row["precision"],
            str(row["viewers"]),
            measured(row, "tokens_per_s"),
            measured(row, "alone_tokens_per_s"),
            number(row["ratio"], 2),
            number(row.get("steady_ratio"), 2),
            *(number(row[key], 0, " ms") for key in times),
            number(row["viewers_cores"], 2, " cores"),
        ]
        for row in rows
    )
    return "\n" + table(head, lines)


def loaded(rows: list[dict]) -> str:
    head = "model | contender | file read | to the first token | reading, of that | memory until then | one row, tokens/s | "
    head += "memory then"
    lines = (
        [
            row["model"],
            row["contender"],
            number(row["read_s"], 2, " s"),
            measured(row, "first_s", 2, " s"),
            number(row["ratio"], 2),
            number(row.get("memory_mb"), 0, " MB"),
            measured(row, "tokens_per_s", 1),
            number(row.get("then_mb"), 0, " MB"),
        ]
        for row in rows
    )
    return "\n" + table(head, lines)


def gaps(rows: list[dict]) -> str:
    head = "model | precision | rows | median gap before | longest while 900 tokens enter | ratio"
    return compared(head, rows, {"median_ms": 1, "longest_ms": 1, "ratio": 2})


def samplers(rows: list[dict]) -> str:
    head = "model | precision | rows | step with no sampler beyond top_k | with all of them | ratio"
    return compared(head, rows, {"off_ms": 2, "on_ms": 2, "ratio": 3})


def beside(rows: list[dict]) -> str:
    head = "model | writers | tokens/s alone | beside a training | ratio | first token alone | beside | "
    head += "the training's cores with nobody writing | beside the writers"
    lines = (
        [
            row["model"],
            str(row["writers"]),
            *(number(row[f"{who}_tokens_per_s"]) for who in ("alone", "beside")),
            number(row["ratio"], 2),
            *(number(row[f"{who}_first_ms"], 0, " ms") for who in ("alone", "beside")),
            *(number(row[name], 2) for name in ("training_alone_cores", "training_cores")),
        ]
        for row in rows
    )
    return "\n" + table(head, lines)


def compared(head: str, rows: list[dict], digits: dict[str, int]) -> str:
    """Two times and their ratio, each with so many digits."""
    units = [(name, count, " ms" if name.endswith("_ms") else "") for name, count in digits.items()]
    lines = (
        [row["model"], row["precision"], str(row["rows"]), *(measured(row, name, *how) for name, *how in units)]
        for row in rows
    )
    return "\n" + table(head, lines)


def same(rows: list[dict]) -> str:
    head = "precision | runs of 64 tokens | equal ids among strangers | runs equal to the end | equal ids after a cut | runs"
    shares = (("equal_ids", 2), ("equal_runs", 0), ("resumed_equal_ids", 2), ("resumed_equal_runs", 0))
    lines = (
        [row["precision"], str(row["runs"]), *(number(100 * row[name], digits, " %") for name, digits in shares)]
        for row in rows
    )
    return "\n" + table(head, lines)


def targets(rows: list[dict]) -> str:
    words = {True: "reached", False: "NOT REACHED", None: "not measured"}
    lines = ([row["target"], row["required"], number(row["found"], 2), words[row["reached"]]] for row in rows)
    return "\n" + table("target | required | found | ", lines)
