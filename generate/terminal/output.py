"""Writing runs to a terminal, a pipe or a file."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from generate.errors import Refusal
from generate.folders.atomic import write_whole
from generate.folders.finding import find_model_or_path
from generate.folders.model_folder import ModelFolder
from generate.interface.log import RunLog, SampleLog
from generate.interface.request import Request
from generate.interface.states import FinishReason
from generate.languages import gettext
from generate.sampling.options import LISTS, Sampling
from generate.sampling.perplexity import perplexity
from generate.sampling.presets import parse_with_preset
from generate.sampling.records import record_as_dict
from generate.scheduling.engine import LocalEngine
from generate.terminal.typed import as_prompt, prompts
from generate.text.characters import CharacterGate, split_half_character
from generate.text.counts import counted
from generate.text.escapes import unescape

RED, PLAIN = "\x1b[31m", "\x1b[39m"


def write(args: argparse.Namespace, settings: dict, models: Path, given: dict) -> int:
    """Do what the command line asked: one run, or one after another with --interactive.

    Returns 0, or 1 where a prompt of several was refused; a refusal of the only one is raised.
    """
    folder = find_model_or_path(models, args.model or settings["RUBRIC_MODEL"])
    for remark in folder.remarks:
        print(f"{folder.name}: {remark}", file=sys.stderr)
    for option in LISTS:
        if given[option.name] is not None:
            given[option.name] = [unescape(line) for line in given[option.name]]
    sampling = parse_with_preset(given, dict(folder.defaults))
    names = ("DEVICE", "PRECISION", "THREADS", "MAX_ROWS")
    engine = LocalEngine(models, *(settings[f"RUBRIC_{name}"] for name in names)).start(folder)
    status = 0
    try:
        for typed in prompts(args):
            try:
                write_one(engine, folder, as_prompt(typed, settings["RUBRIC_MAX_PROMPT"]), sampling, args)
            except Refusal as refusal:
                if not args.interactive:
                    raise
                print(f"generate: {refusal}", file=sys.stderr)
                status = 1
    finally:
        engine.close()
    return status


def write_one(
    engine: LocalEngine, folder: ModelFolder, prompt: str, sampling: Sampling, args: argparse.Namespace
) -> None:
    """Continue or score one prompt; raises Refusal where that failed."""
    request = Request(folder, sampling)
    ids = folder.encode_prompt(prompt, args.parse_special)
    if not args.parse_special:  # as the tokenizer reads it
        prompt = folder.tokenizer.vocabulary.bytes_of(ids).decode("utf-8", "replace")
    run = engine.submit(request, request.new_log(ids))
    try:
        if sampling.max_new_tokens == 0:
            score(run, folder, prompt, args.to_file, args.force)
        elif args.to_file:
            to_file(run, folder, prompt, sampling, args.to_file, args.include_prompt, args.force)
        else:
            to_terminal(run, folder, prompt, sampling, sys.stdout, args.include_prompt)
    finally:
        engine.cancel(run)
    for sample in run.samples:
        if sample.error:
            raise Refusal("{reason}", reason=sample.error)


def stream(run: RunLog, sample: SampleLog, folder: ModelFolder) -> Iterator[str]:
    """Yield a sample's text piece by piece as it is written, whole characters only, up to its visible end."""
    vocabulary = folder.tokenizer.vocabulary
    gate = CharacterGate()
    gate.feed(split_half_character(vocabulary.bytes_of(run.prompt["id"]))[1])
    version, sent, size = 0, 0, 0
    while True:
        version = run.wait(version, 1)
        with run.changed:
            finished, end, released = sample.finish_reason is not None, sample.text_end, sample.released
        data = vocabulary.bytes_of(sample.read(sent, released)["id"])
        data = data[: end - size] if finished else data
        sent, size = released, size + len(data)
        yield gate.decode(data, final=finished)
        if finished:
            return


def to_terminal(run: RunLog, folder: ModelFolder, prompt: str, sampling: Sampling, out: TextIO, include: bool) -> None:
    """Write a run while it goes on; the model's words in red, where that can be shown."""
    colour = out.isatty() and not os.environ.get("NO_COLOR")
    for number, sample in enumerate(run.samples, 1):
        if sampling.samples > 1:
            print(f"{'' if number == 1 else chr(10)}======== sample {number} ========", file=out)
        out.write(prompt if include else "")
        for piece in stream(run, sample, folder):
            out.write(f"{RED}{piece}{PLAIN}" if colour and piece else piece)
            out.flush()
        out.write("\n")


def to_file(
    run: RunLog, folder: ModelFolder, prompt: str, sampling: Sampling, path: Path, include: bool, force: bool
) -> None:
    """Write all samples to `path` when they are done; until then it does not exist under that name."""
    show_progress(run, sampling)
    texts = ["".join(stream(run, sample, folder)) for sample in run.samples]
    as_line: Callable[[int], str] = lambda n: json_line(run.samples[n], n, texts[n], prompt, sampling, folder)  # noqa: E731
    if path.suffix == ".jsonl":
        body = "".join(as_line(n) for n in range(len(texts)))
    else:
        body = "\n".join(
            (f"======== sample {n} ========\n" if len(texts) > 1 else "") + (prompt if include else "") + text + "\n"
            for n, text in enumerate(texts, 1)
        )
    save(body, path, force)


def score(run: RunLog, folder: ModelFolder, prompt: str, path: Path | None, force: bool) -> None:
    """Say how likely the model finds a text, in one line; as JSON lines with every token."""
    run.wait_until_done()
    if run.samples[0].finish_reason != FinishReason.LENGTH:  # it failed, and the caller says why
        return
    vocabulary = folder.tokenizer.vocabulary
    found = perplexity(run.prompt, vocabulary)
    if path is not None and path.suffix == ".jsonl":
        facts = {"prompt": prompt, "model": folder.name, "predicted": found.tokens}
        facts |= {"perplexity": found.perplexity, "bits_per_byte": found.bits_per_byte}
        tokens = [record_as_dict(record, vocabulary) for record in run.prompt]
        line = json.dumps(facts | {"tokens": tokens}, ensure_ascii=False) + "\n"
    else:
        line = f"{counted(len(run.prompt))}, {found}\n"
    if path is None:
        sys.stdout.write(line)
    else:
        save(line, path, force)


def save(body: str, path: Path, force: bool) -> None:
    """Write `body` to `path`, whole; without `force`, a file that appeared there meanwhile is left alone."""
    appeared = path.exists() and not force
    place = path.with_name(f".{path.name}.{os.getpid()}.part") if appeared else path
    try:
        write_whole(place, body.encode("utf-8", "replace"))
    except OSError as error:
        raise Refusal("--to-file {path} cannot be written: {reason}.", path=path, reason=error.strerror) from None
    if appeared:
        raise Refusal(
            "--to-file {path} appeared while the text was written; the text is in {part}.", path=path, part=place
        )


def json_line(sample: SampleLog, n: int, text: str, prompt: str, sampling: Sampling, folder: ModelFolder) -> str:
    """Sample `n` with its options and tokens as one line of JSON."""
    facts = {"prompt": prompt, "sample": n, "text": text, "finish_reason": sample.finish_reason, "model": folder.name}
    tokens = [
        record_as_dict(record, folder.tokenizer.vocabulary, sample.blocked.get(place, ()))
        for place, record in enumerate(sample.read())
    ]
    return json.dumps(facts | {"options": sampling.as_dict(), "tokens": tokens}, ensure_ascii=False) + "\n"


def show_progress(run: RunLog, sampling: Sampling) -> None:
    """Show a bar on standard error until the run is done."""
    version = 0
    with tqdm(total=sampling.samples * sampling.max_new_tokens, unit=gettext(" tokens"), disable=None) as bar:
        while not run.done:
            version = run.wait(version, 1)
            bar.update(sum(len(sample) for sample in run.samples) - bar.n)
