"""`python -m finetune evaluate`: what a model makes of a text, by the numbers that a training shows."""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import torch

from finetune import data, measure
from finetune.arguments import precision_of
from finetune.model import load_model
from finetune.options import Options
from finetune.split import whole
from finetune.start import block_size, find_folder, from_folder
from finetune.task import choose_device
from finetune.windows import windows
from generate import ModelFolder, Refusal, Score, check_folder, counted, gettext


def evaluate_and_print(given: dict, options: Options, models: Path) -> None:
    """Score the files in `given` and print loss in nats a token, perplexity and bits per byte; as JSON where asked."""
    folder = check_folder(find_folder(given["model"], models))
    found = evaluate(folder, given["data"], options, given.get("cache") or data.cache_folder())
    if given.get("json"):
        facts = {"model": folder.name, "fingerprint": folder.fingerprint(), "tokens": found.tokens, "loss": found.nats}
        print(json.dumps(facts | {"perplexity": found.perplexity, "bits_per_byte": found.bits_per_byte}))
    else:
        told = gettext(
            "{tokens}, loss {loss:.4f} nats a token, {score}",
            tokens=counted(found.tokens),
            loss=found.nats,
            score=found,
        )
        print(told)


def evaluate(folder: ModelFolder, given: list[str], options: Options, cache: Path) -> Score:
    """Score a whole text, window after window, as a training scores its validation part."""
    device = choose_device(options.device)
    precision = precision_of(options, device)
    start = from_folder(folder, options)
    with tempfile.TemporaryDirectory(prefix="rubric-") as scratch:
        found = data.encoded(given, options, start, cache, Path(scratch), sys.stderr.isatty())
        for line in data.assumptions(options, Path(scratch), given):
            print(line, file=sys.stderr)
        size = block_size(start, options)
        parts = windows(
            whole(found.tokens, found.ends), size, start.context, options.line_by_line, start.begin is not None
        )
        if not len(parts):
            raise Refusal("{file}: there is no text in it.", file=given[0])
        model = load_model(start, options).to(device)
        lengths = data.byte_lengths(start, model.config.vocab_size)
        kind = getattr(torch, precision)
        autocast = contextlib.nullcontext() if precision == "float32" else torch.autocast(device, kind)
        return measure.score(model, parts, lengths, start.pad, size, autocast)
