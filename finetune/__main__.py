"""`python -m finetune DATA --model models/NAME --out models/NEW`, and the smaller commands `encode` and `evaluate`."""

import argparse
import importlib.util
import os
import shlex
import sys
import threading
import types
from dataclasses import fields, replace
from pathlib import Path

from finetune.command_line import GROUPS, add_options, parser, telling
from finetune.option_checks import as_options, is_unicode, make_options
from finetune.options import HELP, Options, flag
from finetune.presets import PRESETS
from generate import Help, Journal, Problem, Refusal, files, gettext, languages, models_folder, read_settings, tie

READ = ("documents", "format", "encoding", "column", "field", "header")  # the options that say how text is read
NEEDED = ("transformers", "accelerate", "peft", "tensorboard")


def main(arguments: list[str]) -> int:
    """0 done, 1 refused (one sentence on stderr), 2 wrong usage, 130 stopped."""
    languages.speak_as_asked()
    asked, arguments = telling().parse_known_args(arguments)
    if asked.tied:
        tie()
    journal = Journal(asked.journal)
    journal.tell("began")
    commands = {"branch": branch, "encode": encode, "evaluate": evaluate}
    told = {"look": look}
    command = arguments[0] if arguments else ""
    try:
        if command in commands:
            return commands[command](arguments[1:])
        return told[command](arguments[1:], journal) if command in told else train(arguments, journal)
    except Refusal as refusal:
        return refused(refusal.problem, journal)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        file, reason = error.filename or Problem("a file"), error.strerror or str(error)
        return refused(Problem("{file}: {reason}.", file=file, reason=reason), journal)


def refused(problem: Problem, journal: Journal) -> int:
    """Say why it was not done, once; returns the exit status."""
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        told = problem.whole()
        journal.tell("refused", sentence=str(problem), problem=told)
        print(f"finetune: {problem}", file=sys.stderr)
    return 1


def train(arguments: list[str], journal: Journal) -> int:
    """Train, or go on with --resume; returns the exit status."""
    p = parser()
    given = vars(p.parse_args(arguments))
    if bool(given.get("model")) == bool(given.get("from_scratch")):
        p.error(gettext("give --model NAME, or --from-scratch"))
    if given.get("tokenizer") and given.get("model"):
        p.error(gettext("--tokenizer is for --from-scratch; --model brings its own"))
    modules = bring()
    names = {field.name for field in fields(Options)}
    own = {name: value for name, value in given.items() if name in names}
    if "split" in own and given.get("validation"):
        raise Refusal("Give --split or --validation, not both.")
    out, preset = given["out"], given.get("preset", "")
    if not is_unicode(out.name):
        raise Refusal("--out is not UTF-8: {given!a:.80}.", given=out.name)
    task = modules.task.Task(
        given=given["data"],
        validation=given.get("validation", ()),
        model=given.get("model", ""),
        teachers=given.get("teacher", ()),
        tokenizer=given.get("tokenizer", ""),
        out=out,
        options=make_options(own, preset),
        models=models_folder(read_settings()),
        cache=given.get("cache") or modules.data.cache_folder(),
        command=told(arguments),
        resume=given.get("resume", False),
        force=given.get("force", False),
        journal=journal if modules.main() else Journal(),
    )
    if task.resume and (kept := task.work / "run.json").is_file():
        before = as_options(modules.record.Record.read(kept).facts["options"])
        task = replace(task, options=make_options(own, preset, before))
    if preset and modules.main():
        print(gettext("--preset {preset} is {options}", preset=preset, options=spelled(PRESETS[preset])))
    return 130 if modules.train.train(task) is None and modules.main() else 0


def spelled(options: dict) -> str:
    """Options as they are typed."""
    return shlex.join(
        word
        for name, value in options.items()
        for word in ([flag(name)] if value is True else [flag(name), str(value)])
    )


def told(arguments: list[str]) -> str:
    """The command as it is kept with the model: without the folders of this machine, or where a server kept encoded text."""
    kept = [nameless(word) for word in arguments if not word.startswith("--cache=")]
    return shlex.join(["python", "-m", "finetune", *kept]).encode("utf-8", "replace").decode()


def nameless(word: str) -> str:
    """An argument without the folders of this machine, as run.json keeps the command."""
    head, equals, tail = word.partition("=") if word.startswith("--") else ("", "", word)
    return head + equals + (Path(tail).name if Path(tail).is_absolute() else tail)


def require() -> None:
    """Raise Refusal unless what trains is installed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here asks the network
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)
    if missing:
        raise Refusal(
            "{package} is not installed; what training needs comes with Rubric installed as `rubric[finetune]`."
            if files.INSTALLED
            else "{package} is not installed; `make finetune` installs what training needs.",
            package=missing,
        )


def bring() -> types.SimpleNamespace:
    """Import what trains; raises Refusal when it is not installed."""
    require()
    import transformers

    from finetune import data, record, task, train

    transformers.utils.logging.disable_progress_bar()  # one for every checkpoint
    threading.excepthook = quiet_about_files
    return types.SimpleNamespace(
        data=data, record=record, task=task, train=train, main=lambda: os.environ.get("RANK", "0") == "0"
    )


def quiet_about_files(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread has nobody to tell that the disk is full; the next checkpoint will say so in a sentence."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def look(arguments: list[str], journal: Journal) -> int:
    """What a training would find in a text: documents, tokens, what would be held out."""
    p = argparse.ArgumentParser(
        prog="python -m finetune look", formatter_class=Help, argument_default=argparse.SUPPRESS, parents=[telling()]
    )
    p.add_argument("data", nargs="+", help="as for training")
    p.add_argument("--model", required=True, help="whose tokenizer: a folder, or its name in models/")
    p.add_argument("--cache", type=Path, help="folder for encoded text (default: ~/.cache/rubric/encodings)")
    p.add_argument("--preset", choices=list(PRESETS), help="as for training")
    for title, names in GROUPS.items():  # all of them, so that none is refused only when the training begins
        add_options(p.add_argument_group(title), names)
    given = vars(p.parse_args(arguments))
    require()
    from finetune.look import look_and_print

    options = make_options({k: v for k, v in given.items() if k in HELP}, given.get("preset", ""))
    look_and_print(given, options, models_folder(read_settings()), journal)
    return 0


def encode(arguments: list[str]) -> int:
    """Make the encoding alone, such as on a machine that has more time than memory."""
    p = argparse.ArgumentParser(
        prog="python -m finetune encode", formatter_class=Help, argument_default=argparse.SUPPRESS
    )
    p.add_argument("data", nargs="+", help="as for training; also nshepperd's and gpt-2-simple's .npz")
    p.add_argument("target", type=Path, help="the folder to make; give it to the training as its data")
    p.add_argument("--model", required=True, help="whose tokenizer: a folder, or its name in models/")
    p.add_argument("--force", action="store_true", help="replace an existing folder")
    add_options(p, (*READ, "special_tokens"))
    given = vars(p.parse_args(arguments))
    bring()
    from finetune.encode import encode_to

    encode_to(given, make_options({k: v for k, v in given.items() if k in HELP}), models_folder(read_settings()))
    return 0


def evaluate(arguments: list[str]) -> int:
    """How well a model predicts a text: loss, perplexity, bits per byte."""
    p = argparse.ArgumentParser(
        prog="python -m finetune evaluate", formatter_class=Help, argument_default=argparse.SUPPRESS
    )
    p.add_argument("model", help="a folder, or its name in models/")
    p.add_argument("data", nargs="+", help="as for training")
    p.add_argument("--cache", type=Path, help="folder for encoded text (default: ~/.cache/rubric/encodings)")
    p.add_argument("--json", action="store_true", help="as JSON")
    add_options(p, (*READ, "line_by_line", "block_size", "device", "precision"))
    given = vars(p.parse_args(arguments))
    bring()
    from finetune.evaluate import evaluate_and_print

    evaluate_and_print(
        given, make_options({k: v for k, v in given.items() if k in HELP}), models_folder(read_settings())
    )
    return 0


def branch(arguments: list[str]) -> int:
    """Copy a training at a constant rate, to cool the copy down while the training itself goes on."""
    p = argparse.ArgumentParser(
        prog="python -m finetune branch", formatter_class=Help, argument_default=argparse.SUPPRESS
    )
    p.add_argument("training", type=Path, help="the --out of the training; its newest checkpoint is copied")
    p.add_argument("out", type=Path, help="the folder that the copy is to make")
    p.add_argument("--cooldown", type=int, required=True, metavar="N", help="steps in which the rate falls to zero")
    p.add_argument("--force", action="store_true", help="replace an existing folder or training")
    add_options(p, ("ema", "weight_decay", "dtype"))
    given = vars(p.parse_args(arguments))
    bring()
    from finetune.branch import branch as make

    training, out, force = given.pop("training"), given.pop("out"), given.pop("force", False)
    step = make(training, out, given, force)
    told = gettext(
        "{out} begins at step {step:,} of {training}, with {left:,} steps to go. The command of that training with --out "
        "{out} --resume, and without --steps, --epochs, --minutes and --cooldown, finishes it.",
        out=out,
        step=step,
        training=training,
        left=given["cooldown"],
    )
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
