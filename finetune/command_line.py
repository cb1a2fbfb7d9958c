"""The command line of `python -m finetune`: its options, in groups, from the table."""

import argparse
from pathlib import Path
from typing import get_type_hints

from finetune.options import HELP, Options, flag
from finetune.presets import PRESETS
from generate import N_, Help, gettext

METAVARS = {int: "N", float: "X", str: "TEXT"}
GROUPS = {
    N_("data"): (
        "documents", "format", "encoding", "column", "field", "header", "special_tokens", "split", "line_by_line", "block_size", "shuffle",
    ),
    N_("training"): (
        "steps", "epochs", "minutes", "batch_size", "gradient_accumulation", "learning_rate", "schedule", "warmup", "stable",
        "cooldown", "ema", "optimizer", "beta2", "weight_decay", "clip", "dropout", "freeze_embeddings", "lora",
        "distill_weight", "patience", "seed",
    ),
    N_("device and memory"): ("device", "precision", "compile", "gradient_checkpointing", "dtype"),
    N_("while it runs"): (
        "evaluate_every", "sample_every", "sample_prompt", "sample_length", "save_every", "log_every", "keep",
    ),
    N_("from nothing"): ("layers", "width", "heads", "vocab", "zero_init"),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The options of `python -m finetune`; what was not given is absent from the result."""
    p = argparse.ArgumentParser(
        prog="python -m finetune",
        formatter_class=Help,
        usage="python -m finetune DATA ... --model models/NAME --out models/NEW [options]\n"
        "       python -m finetune DATA ... --from-scratch --out models/NEW [options]",
        description="Train a GPT-2 on your own text. The smaller commands are `look`, `encode`, `evaluate` and `branch`; "
        "`python -m finetune look --help` and so on tell of them.",
        argument_default=argparse.SUPPRESS,
        parents=[telling()],
    )
    p.add_argument(
        "data",
        nargs="+",
        help="text, CSV, TSV, JSON, JSON lines or Parquet, also gzipped; a folder or a pattern of such files; - for stdin; "
        "an old .npz encoding, or a folder that `encode` made",
    )
    p.add_argument("--model", help="the model to begin with: a folder, or its name in models/")
    p.add_argument("--from-scratch", action="store_true", help="begin with a new tokenizer and random weights")
    p.add_argument("--tokenizer", metavar="MODEL", help="with --from-scratch: the model whose tokens the new one has")
    p.add_argument(
        "--teacher",
        action="append",
        metavar="MODEL",
        help="a model with the same vocabulary, to learn from beside the text; given several times, from all of them",
    )
    p.add_argument("--out", type=Path, required=True, help="the folder to make, such as models/friends")
    p.add_argument("--validation", nargs="+", metavar="FILE", help="held-out text of its own, in place of --split")
    p.add_argument(
        "--preset", choices=list(PRESETS), help="options of a known recipe; what you give yourself comes first"
    )
    p.add_argument("--resume", action="store_true", help="go on with a training that was stopped")
    p.add_argument("--force", action="store_true", help="replace an existing folder, and begin anew")
    p.add_argument("--cache", type=Path, help="folder for encoded text (default: ~/.cache/rubric/encodings)")
    for title, names in GROUPS.items():
        add_options(p.add_argument_group(title), names)
    return p


def telling() -> argparse.ArgumentParser:
    """What programs that start this one want of it; every command has these, and none keeps them with what it makes."""
    p = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = p.add_argument_group(N_("for programs that start this one"))
    group.add_argument("--journal", type=Path, metavar="FILE", help="append what happens to it, as JSON lines")
    group.add_argument("--tied", action="store_true", help="stop as with Ctrl-C when standard input ends")
    return p


def add_options(group, names: tuple[str, ...]) -> None:
    """Give a parser the named options of a training, each with its help from the table."""
    kinds = get_type_hints(Options)
    for name in names:
        if kinds[name] is bool:
            group.add_argument(flag(name), action="store_true", help=HELP[name])
        else:
            group.add_argument(flag(name), type=number(kinds[name]), metavar=METAVARS[kinds[name]], help=HELP[name])
        if name == "line_by_line":
            group.add_argument("--pack", dest=name, action="store_false", help="the opposite, and the default")


def number(kind: type):
    """A parser for argparse of one `kind`, which its messages call by a name that people know."""

    def parse(text: str):
        return kind(text)

    parse.__name__ = gettext({int: N_("whole number"), float: N_("number"), str: N_("text")}[kind])
    return parse
