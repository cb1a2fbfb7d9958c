"""`python -m convert SOURCE models/NAME`: an old TensorFlow GPT-2 checkpoint becomes a model that the page serves."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from convert.adopted import adopt, model_folders
from convert.archive import unpacked
from convert.folder import convert, open_source
from convert.hub import fetched, hub_name
from convert.npm import SIZE
from convert.questions import Question, is_ours
from convert.source import Source, checkpoint_folders, find_source
from convert.telling import inspect, print_certificate, print_sizes, print_skipped
from convert.to_gguf import TYPES, check_file, to_gguf
from convert.to_tensorflow import to_checkpoint
from generate import N_, Help, Journal, Problem, Refusal, check_folder, check_target, gettext, languages, retelling, tie


def parser() -> argparse.ArgumentParser:
    """The options of `python -m convert`."""
    p = argparse.ArgumentParser(
        prog="python -m convert",
        formatter_class=Help,
        description="Convert a GPT-2 of TensorFlow (OpenAI's, nshepperd's, gpt-2-simple's), of PyTorch (pytorch_model.bin, "
        "nanoGPT's ckpt.pt) or of llama.cpp (a GGUF) into a model folder.",
    )
    p.add_argument(
        "source",
        type=Path,
        help="a folder, a checkpoint's prefix, any one of its files, a .tar, .tar.gz or .zip of it, "
        "a pytorch_model.bin, a ckpt.pt, a .gguf, a folder of transformers, or hub:OWNER/NAME",
    )
    p.add_argument("target", type=Path, nargs="?", help="the folder to make, such as models/friends")
    p.add_argument("--inspect", action="store_true", help="only list what the checkpoint holds")
    p.add_argument(
        "--to-tf", action="store_true", help="the way back: SOURCE is a model folder, the target a checkpoint"
    )
    p.add_argument("--to-gguf", action="store_true", help="SOURCE is a model folder, the target a file for llama.cpp")
    p.add_argument("--gguf-type", choices=TYPES, default=TYPES[0], help="of the matrices in it (default: %(default)s)")
    p.add_argument("--json", action="store_true", help="with --inspect: as JSON")
    p.add_argument("--step", type=int, metavar="N", help="of several checkpoints in a folder, the one of this step")
    p.add_argument("--n-head", type=int, metavar="N", help="number of attention heads, where no hparams.json tells it")
    p.add_argument(
        "--vocab",
        type=Path,
        metavar="FOLDER",
        help="whose vocabulary to use (a folder with encoder.json and vocab.bpe or with vocab.txt, a list of BERT's of any name, or "
        "a model folder; gpt2: GPT-2's own), if none is beside it",
    )
    p.add_argument("--ask", action="store_true", help="refuse where a vocabulary is missing, instead of assuming one")
    p.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        help="of the weights written (default: float32)",
    )
    p.add_argument(
        "--end-marker",
        choices=["id", "text"],
        help="whether the model ends a text by the token <|endoftext|> or by the same in ordinary tokens "
        "(default: asked of the model itself)",
    )
    p.add_argument("--no-check", action="store_true", help="do not load and judge the result (needs no torch)")
    p.add_argument("--force", action="store_true", help="replace an existing folder")
    p.add_argument(
        "--journal", type=Path, metavar="FILE", help="append what happens to it, as JSON lines, for programs"
    )
    p.add_argument("--tied", action="store_true", help="stop as with Ctrl-C when standard input ends")
    return p


def main(arguments: list[str]) -> int:
    """0 done, 1 refused (one sentence on stderr), 2 wrong usage."""
    languages.speak_as_asked()
    p = parser()
    args = p.parse_args(arguments)
    if bool(args.target) == args.inspect or (args.inspect + args.to_tf + args.to_gguf > 1):
        p.error(gettext("give SOURCE and the folder to make, or --inspect SOURCE"))
    if args.tied:
        tie()
    journal = Journal(args.journal)
    journal.tell("began")
    try:
        if args.to_tf:
            back(args)
            return 0
        if args.to_gguf:
            to_llama(args)
            return 0
        journal.tell("stage", name="reading")
        journal.tell("found")  # what an earlier try asked for is answered, or asked for again
        name = hub_name(args.source)
        if name is not None and not args.inspect:
            check_target(args.target, args.force)  # before anything is fetched
            journal.tell("stage", name="fetching")
        with unpacked(args.source) if name is None else fetched(name) as held:
            whole = model_folders(held) if held.is_dir() and not args.inspect else []
            if len(whole) == 1 and not checkpoint_folders(held):
                take(whole[0], args, journal)
                return 0
            source = find_source(held, args.step)
            if args.inspect:
                inspect(open_source(source), source, args.json)
            else:
                run(source, args, journal)
        return 0
    except Refusal as refusal:
        if isinstance(refusal, Question):
            journal.tell("found", **refusal.about)
        return refused(refusal.problem, journal, again=is_ours(refusal))
    except BrokenPipeError:
        return 130
    except OSError as error:
        file = error.filename or Problem("a file")
        told = Problem("{file} cannot be read: {reason}.", file=file, reason=error.strerror)
        return refused(told, journal, again=is_ours(error))
    except KeyboardInterrupt:
        return 130


def refused(problem: Problem, journal: Journal, again: bool = False) -> int:
    """Say why it was not done, and to programs whether the same may do `again`; returns the exit status."""
    sentence = printable(str(problem))
    told = problem.whole()
    journal.tell("refused", sentence=sentence, problem=told, again=again)
    print(f"convert: {sentence}", file=sys.stderr)
    return 1


def printable(sentence: str) -> str:
    """A sentence in which what cannot be shown, as names in archives have it, is spelled as Python does."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in sentence)


def back(args: argparse.Namespace) -> None:
    """Write a model folder as a TensorFlow checkpoint (--to-tf); raises Refusal."""
    check_target(args.target, args.force, args.source)
    folder = check_folder(args.source.resolve())
    size = sum(file.stat().st_size for file in folder.weights)
    with tqdm(total=size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        to_checkpoint(folder, args.target, bar.update)
    told = N_("{source} is now the TensorFlow checkpoint {target}.")
    print(gettext(told, source=args.source, target=args.target / "model.ckpt"))


def to_llama(args: argparse.Namespace) -> None:
    """Write a model folder as a GGUF (--to-gguf); raises Refusal."""
    check_file(args.target, args.force)
    folder = check_folder(args.source.resolve())
    with tqdm(unit="B", unit_scale=True, disable=None, leave=False) as bar:
        to_gguf(folder, args.target, args.gguf_type, bar.update)
    told = N_("{source} is now {target}, in {type}, for llama.cpp and whatever is built on it.")
    print(gettext(told, source=args.source, target=args.target, type=args.gguf_type))


def take(folder: Path, args: argparse.Namespace, journal: Journal) -> None:
    """Make a model of a folder of `transformers`', and print so; raises Refusal, also where more is asked than to copy it."""
    for option in ("--dtype", "--n-head", "--vocab", "--step", "--end-marker"):
        if getattr(args, option.strip("-").replace("-", "_")) is not None:
            raise Refusal(
                "{source} is a model of `transformers` already and is copied as it is; {option} is for what is converted.",
                source=args.source,
                option=option,
            )
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    journal.tell("stage", name="writing")
    with tqdm(total=size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        name = hub_name(args.source)
        origin = retelling.BROUGHT if name is None else retelling.FROM_HUB.format(name=name)
        adopt(folder, args.target, args.force, origin, journal.counter(size, "bytes", bar.update))
    journal.tell("done", model=args.target.name)
    told = N_("{source} is a model of transformers already; {target} is a copy of it, checked.")
    print(gettext(told, source=args.source, target=args.target))


def run(source: Source, args: argparse.Namespace, journal: Journal) -> None:
    """Convert a checkpoint as the command line asks, and print what was found; raises Refusal."""
    check_target(args.target, args.force, args.source)  # as it was given: an archive is unpacked elsewhere by now
    files = [*source.prefix.parent.glob(f"{source.prefix.name}.data-*"), source.prefix]
    size = sum(file.stat().st_size for file in files if file.is_file())
    with tqdm(total=size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        made = convert(
            source,
            args.target,
            n_head=args.n_head,
            vocabulary=args.vocab,
            dtype=args.dtype or "float32",
            force=args.force,
            check=not args.no_check,
            end_marker=args.end_marker,
            ask=args.ask,
            progress=journal.counter(size, "bytes", bar.update),
            stage=lambda name: journal.tell("stage", name=name),
        )
    journal.tell("done", model=args.target.name)
    print_sizes(made.sizes)
    if made.vocabulary is not None:
        print(f"{gettext('vocabulary'):20} {made.vocabulary.size:>10}   {retelling.retold(made.vocabulary.origin)}")
    print_skipped(made.bundle)
    if made.certificate:
        print_certificate(made.certificate)
    print(gettext("\n{source} is now {target}.", source=args.source, target=args.target))
    if made.vocabulary is None:
        npm = gettext("run `npm ci` once, which brings GPT-2's own, or ") if made.sizes.vocab_size == SIZE else ""
        told = gettext(
            "It has no vocabulary yet, and cannot be served without: {npm}convert again with --force and --vocab FOLDER, "
            "where FOLDER holds encoder.json and vocab.bpe (models/117M of the run it was trained from has them), vocab.txt, or "
            "nanoGPT's meta.pkl (data/NAME of the run).",
            npm=npm,
        )
        print(told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
