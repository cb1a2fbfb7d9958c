"""`python -m generate` continues prompts on the terminal; `python -m generate download NAME` fetches a model."""

import argparse
import io
import logging
import sys
from pathlib import Path

from generate import languages
from generate.errors import Refusal
from generate.folders.finding import models_folder
from generate.folders.generation import DEFAULTS
from generate.help import Help
from generate.languages import gettext, speak_as_asked
from generate.sampling.options import LISTS, OPTIONS
from generate.sampling.presets import PRESETS, SHAPING
from generate.settings import read_settings


def parser() -> argparse.ArgumentParser:
    """The options of `python -m generate`, those of sampling from their table."""
    p = argparse.ArgumentParser(
        prog="python -m generate",
        formatter_class=Help,
        description="Continue a prompt, or standard input, with a model of models/. Your words keep the terminal's colour; "
        "the model's are red.",
        epilog="python -m generate download NAME fetches a GPT-2 from the Hugging Face hub into models/.",
    )
    p.add_argument(
        "prompt",
        nargs="?",
        help="the text to continue; left out, it is read from standard input, without the newline that ends it",
    )
    p.add_argument("--model", help="a model: its name in models/, or a folder (default: RUBRIC_MODEL)")
    p.add_argument(
        "--preset",
        metavar="NAME",
        help=gettext(
            "how to choose; an option given beside it comes first. {presets} (default: model)",
            presets=languages.spaced(
                gettext("{title}: {sentence}", title=preset.name, sentence=gettext(preset.meaning))
                for preset in PRESETS
            ),
        ),
    )
    for option in OPTIONS:
        usual = gettext("the model's") if option.name in DEFAULTS else option.default
        usual = gettext("random") if option.name == "seed" else usual
        shown = gettext("the preset's") if option.name in SHAPING else usual
        p.add_argument(
            "--" + option.name.replace("_", "-"),
            metavar="N",
            help=gettext(
                "{title}. {meaning} (default: {usual})",
                title=gettext(option.title),
                meaning=gettext(option.meaning),
                usual=shown,
            ).replace("%", "%%"),
        )
    for option in LISTS:
        p.add_argument(
            "--" + option.name.replace("_", "-"),
            action="append",
            metavar="TEXT",
            help=gettext(
                "{title}: {meaning}; may be repeated", title=gettext(option.title), meaning=gettext(option.command)
            ),
        )
    p.add_argument(
        "--parse-special",
        action="store_true",
        help="in the prompt, the name of a special token such as <|endoftext|> is that token, not a text",
    )
    p.add_argument("--interactive", action="store_true", help="ask for one prompt after another")
    p.add_argument("--unconditional", action="store_true", help="no prompt: start from the end-of-text token")
    p.add_argument(
        "--include-prompt",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the prompt before its continuation (default: yes)",
    )
    p.add_argument("--to-file", type=Path, metavar="FILE", help="write to FILE; as JSON lines when it ends in .jsonl")
    p.add_argument("--force", action="store_true", help="let --to-file overwrite an existing file")
    return p


def download(arguments: list[str]) -> None:
    """`python -m generate download`: fetch a model into the user's folder."""
    p = argparse.ArgumentParser(
        prog="python -m generate download",
        description="Fetch a GPT-2 from the Hugging Face hub.",
        formatter_class=Help,
    )
    p.add_argument("name", help="its name on the hub, such as gpt2 or gpt2-medium")
    p.add_argument("--as", dest="target", help="its name in models/ (default: the hub's, without the owner)")
    args = p.parse_args(arguments)
    from generate.folders.download import fetch

    target = fetch(args.name, models_folder(read_settings()), args.target)
    print(gettext("{model} is in {folder}; the page lists it now.", model=args.name, folder=target))


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant together, before a model is loaded."""
    chosen = [args.prompt is not None, args.interactive, args.unconditional]
    if sum(chosen) > 1:
        raise Refusal("give a prompt, or --interactive, or --unconditional: only one of them.")
    if args.interactive and args.to_file:
        raise Refusal("--to-file does not go with --interactive.")
    if args.to_file and args.to_file.exists() and not args.force:
        raise Refusal("--to-file {path} exists already; choose another name, or add --force.", path=args.to_file)
    if args.to_file and not args.to_file.resolve().parent.is_dir():
        raise Refusal(
            "--to-file {path}: there is no folder {folder}.", path=args.to_file, folder=args.to_file.resolve().parent
        )


def main(arguments: list[str]) -> int:
    """0 done, 1 refused (one sentence on stderr), 2 wrong usage, 130 interrupted."""
    speak_as_asked()
    logging.getLogger("generate").addHandler(logging.NullHandler())  # a failure is told once, below
    # bytes that are no text must not end in a traceback
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        if arguments[:1] == ["download"]:
            download(arguments[1:])
            return 0
        args = parser().parse_args(arguments)
        settings = read_settings()
        given = {option.name: getattr(args, option.name) for option in OPTIONS + LISTS} | {"preset": args.preset}
        check(args)
        from generate.terminal.output import write

        return write(args, settings, models_folder(settings), given)
    except Refusal as refusal:
        print(f"generate: {refusal}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
