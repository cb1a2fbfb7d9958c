"""The form that teaches a model: its fields, and the words that they become on the command line of `python -m finetune`.

The options are `finetune/options.py`'s, by their names; only there are they checked, so that page and terminal say the same.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from generate import Refusal

TEXTS = "texts"  # the folder of a job's texts, in its own
LONGEST = 2000  # characters of a field
MINUTES = ("2", "5", "10", "60")
USUAL = {"minutes": "5"}


@dataclass(frozen=True)
class Field:
    """An option as the form has it: a text, one of `choices`, or a `tick`."""

    name: str
    title: str
    meaning: str = ""
    choices: tuple[str, ...] = ()
    tick: bool = False


@dataclass(frozen=True)
class Group:
    """Fields that stand together."""

    title: str
    fields: tuple[Field, ...]


PRESETS = ("nshepperd", "gpt-2-simple", "summaries", "wikitext", "jokes", "blocks")
GROUPS = (
    Group(
        "Length",
        (
            Field("steps", "Steps", "In place of minutes."),
            Field("epochs", "Times through the text", "In place of minutes."),
            Field("patience", "Patience", "Looks at the held-out text without a better one, after which it stops."),
        ),
    ),
    Group(
        "The text",
        (
            Field("documents", "A document ends", "file, line, blank-line, or any text that stands between two."),
            Field("split", "Held out", "Shares to learn from and to hold out: 90/10, or 70/20/10 with a last test."),
            Field("format", "Around each document", "Such as JOKE: {text}"),
            Field("encoding", "Encoding", "utf-8, unless you know better."),
            Field("column", "Column", "Of CSV, TSV and Parquet: a name, or a number from 0."),
            Field("field", "Field", "Of JSON and JSON lines; a.b is field b of the object in field a."),
            Field("header", "First row is a header", "Of CSV and TSV.", ("auto", "yes", "no")),
            Field("special_tokens", "Added tokens", "bos, eos or pad, between commas."),
            Field("line_by_line", "Each document in a window of its own", tick=True),
            Field("block_size", "Window", "Tokens; empty: the model’s whole window."),
            Field("shuffle", "Shuffle", "", ("auto", "documents", "windows")),
        ),
    ),
    Group(
        "What it writes on the way",
        (
            Field("sample_prompt", "Opening", "Written again and again, so that one sees it learn."),
            Field("sample_every", "Steps between", "0: never; empty: ten times in all."),
            Field("sample_length", "Length", "Tokens."),
        ),
    ),
    Group(
        "Learning",
        (
            Field("learning_rate", "Learning rate", "Empty: it follows from the model’s size."),
            Field("schedule", "Schedule", "", ("cosine", "linear", "constant", "stable")),
            Field("warmup", "Warm-up", "Steps, or below 1 a share of all."),
            Field("stable", "Stable share", "Of the schedule “stable”."),
            Field("cooldown", "Cool-down", "Steps, of the schedule “constant”."),
            Field("batch_size", "Batch", "Windows."),
            Field("gradient_accumulation", "Batches to a step"),
            Field("optimizer", "Optimizer", "", ("adamw", "muon")),
            Field("beta2", "Beta 2"),
            Field("weight_decay", "Weight decay"),
            Field("clip", "Longest gradient"),
            Field("dropout", "Dropout"),
            Field("ema", "Average of the last weights", "Steps; 150 is worth a try."),
            Field("lora", "LoRA rank", "Adapters in place of all weights; 8 needs little memory."),
            Field("freeze_embeddings", "Leave the embeddings as they are", tick=True),
            Field("layers", "Layers", "Adds some, up to so many."),
            Field("seed", "Seed"),
        ),
    ),
    Group(
        "The machine",
        (
            Field("device", "Device", "", ("auto", "cpu", "cuda")),
            Field("precision", "Precision", "", ("auto", "float32", "bfloat16", "float16")),
            Field("dtype", "Weights are written in", "", ("float32", "float16", "bfloat16")),
            Field("gradient_checkpointing", "Less memory, slower", tick=True),
            Field("evaluate_every", "Steps between looks at the held-out text"),
            Field("save_every", "Steps between checkpoints"),
            Field("log_every", "Steps between points of the curve"),
            Field("keep", "Checkpoints kept"),
            Field("compile", "Compile", tick=True),
        ),
    ),
)
FIELDS = tuple(field for group in GROUPS for field in group.fields)
NAMES = ("model", "makes", "minutes", "preset", *(field.name for field in FIELDS))


def read(form: Mapping[str, str]) -> dict[str, str]:
    """The fields as they were sent, those that are empty left out; raises Refusal for what no command line can have."""
    given = {name: form.get(name, "").strip() for name in NAMES}
    for name, text in given.items():
        if "\0" in text or len(text) > LONGEST:
            raise Refusal(
                "{name} must have at most {limit:,} characters, and no NUL among them.", name, name=name, limit=LONGEST
            )
    if given["steps"] or given["epochs"]:
        given["minutes"] = ""
    return {name: text for name, text in given.items() if text}


def arguments(fields: Mapping[str, str], files: list[str]) -> list[str]:
    """The command line of a training, but for what it makes."""
    return [*(f"{TEXTS}/{file}" for file in files), *words(fields)]


def words(fields: Mapping[str, str]) -> Iterator[str]:
    """The options as they are typed; each is one word, so that no value can be taken for another option."""
    ticks = {field.name for field in FIELDS if field.tick}
    for name, value in fields.items():
        flag = "--" + name.replace("_", "-")
        if name in ticks:
            yield flag
        elif name != "makes":
            yield f"{flag}={value}"


def file_name(given: str, taken: list[str]) -> str:
    """A name for a file that somebody brought, which leads nowhere else, means no option, and is not `taken`."""
    name = re.sub(r"[^\w.-]+", "_", given.replace("\\", "/").rpartition("/")[2]).lstrip("._-")[-80:] or "text.txt"
    return name if name not in taken else f"{len(taken) + 1}-{name}"
