"""The arithmetic of a training against a second opinion: a plain PyTorch loop that shares no code with ours."""

import math

import numpy as np
import pytest
import torch
from conftest import make_model
from transformers import AutoTokenizer, GPT2LMHeadModel
from tuning import losses, run_json, some_text

from finetune.presets import PRESETS

STEPS = 5
END = 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny", seed=1, n_positions=512)


def plain_windows(texts, tokenizer, block, line_by_line, begin, end):
    """Windows of ids, each beginning with the token before its first prediction."""
    documents = [([begin] if begin is not None else []) + tokenizer(t)["input_ids"] + [end] for t in texts]
    if line_by_line:
        streams = [d if begin is not None or n % 2 else [end, *d] for n, d in enumerate(documents)]
    else:
        streams = [[end] + [i for d in documents for i in d]]
    return [s[i : i + block] for s in streams for i in range(0, len(s) - 1, block - 1)]


def plain_loop(folder, windows_of, options, steps, special=0):
    """Losses of the first steps: mean nats over all predicted tokens of a step, before it. Each epoch has its windows."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(1)
    if special:
        model.resize_token_embeddings(model.config.vocab_size + special)
    model.eval()  # no dropout
    decayed = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": options.get("weight_decay", 0)},
        {"params": others, "weight_decay": 0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1, betas=(0.9, 0.999), eps=1e-8)
    batch, accumulation = options.get("batch_size", 8), options.get("gradient_accumulation", 1)
    asked = options.get("warmup", 0.05)
    warmup = round(asked * steps) if asked < 1 else min(asked, steps // 2)
    order, found, epoch = [], [], 0
    while len(order) < steps:
        windows = windows_of(epoch)
        numbers = np.random.default_rng([1, epoch]).permutation(len(windows)).tolist()
        group = batch * accumulation
        order += [[windows[n] for n in numbers[i : i + group]] for i in range(0, len(numbers), group)]
        epoch += 1
    for step, windows in enumerate(order[:steps]):
        total, count = 0, 0
        for window in windows:
            ids = torch.tensor(window)
            logprobs = model(input_ids=ids[None]).logits[0].log_softmax(-1)
            total = total - logprobs[:-1].gather(1, ids[1:, None]).sum()
            count += len(ids) - 1
        loss = total / count
        loss.backward()
        if options.get("clip", 1):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = step / warmup if step < warmup else 1.0
        if step >= warmup and options.get("schedule", "cosine") == "linear":
            share = max(0.0, (steps - step) / max(1, steps - warmup))
        elif step >= warmup and options.get("schedule", "cosine") == "cosine":
            share = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = options.get("learning_rate", 5e-5) * share
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("preset", ["", *(pytest.param(name, marks=pytest.mark.long) for name in PRESETS)])
def test_the_first_steps_have_the_losses_of_a_plain_loop(preset, bench, model):
    options = PRESETS.get(preset, {}) | {"learning_rate": 3e-3}  # a rate at which five steps make a difference
    given = ["--preset", preset] if preset else []
    folder = bench.made(
        "out", *given, "--documents", "line", "--split", "100/0", "--steps", STEPS, "--log-every", 1, "--save-every", 0,
        "--dropout", 0, "--learning-rate", 3e-3,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [options.get("format", "{text}").replace("{text}", line) for line in some_text(60).splitlines()]
    special = bool(options.get("special_tokens"))
    begin, end = (300, 301) if special else (None, END)
    options["batch_size"] = run_json(folder)["options"]["batch_size"]

    def windows_of(epoch):
        """Packed documents come in a new order every epoch."""
        lines = options.get("line_by_line")
        order = range(len(texts)) if lines else np.random.default_rng([1, epoch, 1]).permutation(len(texts)).tolist()
        ordered = [texts[n] for n in order]
        return plain_windows(ordered, tokenizer, options.get("block_size", 512), lines, begin, end)

    theirs = plain_loop(model, windows_of, options, STEPS, special=3 * special)
    assert losses(folder) == pytest.approx(theirs, abs=1e-4)
    assert theirs[-1] < theirs[0] - 0.01


def test_the_counts_of_tokens_add_up(bench):
    folder = bench.made("out", "--documents", "line", "--steps", 1, "--save-every", 0)
    told = run_json(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = sum(len(tokenizer(line)["input_ids"]) + 1 for line in some_text(60).splitlines())
    assert sum(told["tokens"].values()) == expected
    assert sum(told["documents"].values()) == 60
    assert told["documents"] == {"train": 54, "validation": 6}


@pytest.mark.long
def test_accumulated_batches_are_one_large_batch(bench):
    common = (
        "--documents",
        "line",
        "--block-size",
        32,
        "--steps",
        6,
        "--log-every",
        1,
        "--dropout",
        0,
        "--save-every",
        0,
    )
    one = bench.made("one", *common, "--batch-size", 8)
    other = bench.made("other", *common, "--batch-size", 2, "--gradient-accumulation", 4)
    assert losses(one) == pytest.approx(losses(other), abs=1e-5)


@pytest.mark.long
def test_gradient_checkpointing_changes_memory_and_nothing_else(bench):
    common = ("--documents", "line", "--steps", 4, "--log-every", 1, "--save-every", 0)
    one = bench.made("one", *common)
    other = bench.made("other", *common, "--gradient-checkpointing")
    assert losses(one) == pytest.approx(losses(other), abs=1e-6), "with dropout: its masks are drawn again"


@pytest.mark.long
def test_when_memory_is_short_smaller_batches_make_the_same_steps(bench, monkeypatch, capsys):
    common = (
        "--documents",
        "line",
        "--block-size",
        32,
        "--steps",
        6,
        "--log-every",
        1,
        "--dropout",
        0,
        "--batch-size",
        6,
    )
    plenty = bench.made("plenty", *common)
    real = GPT2LMHeadModel.forward

    def short(self, input_ids, **kwargs):
        if self.training and len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return real(self, input_ids, **kwargs)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", short)
    scarce = bench.made("scarce", *common)
    assert losses(scarce) == pytest.approx(losses(plenty), abs=1e-5)
    assert "1 window" in capsys.readouterr().out, "6, 3 and then 1, whose batches still add up to 6"


def test_only_the_layers_change_with_frozen_embeddings(bench, model):
    from tuning import weights

    folder = bench.made("out", "--documents", "line", "--steps", 3, "--freeze-embeddings", "--learning-rate", 1e-3)
    before, after = weights(model), weights(folder)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("transformer.h.") for name in changed)


@pytest.mark.long
def test_adapters_merged_give_the_logits_of_adapters_unmerged(bench, model, monkeypatch):
    from finetune import result

    seen = []
    real = result.prove

    def spy(folder, trained, ids, dtype):
        trained.eval()
        with torch.inference_mode():
            seen.append((ids, trained(input_ids=torch.tensor([ids])).logits[0]))
        return real(folder, trained, ids, dtype)

    monkeypatch.setattr(result, "prove", spy)
    folder = bench.made("out", "--documents", "line", "--lora", 4, "--steps", 10, "--learning-rate", 1e-2)
    ((ids, unmerged),) = seen
    plain = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    untrained = GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()
    with torch.inference_mode():
        merged, before = (m(input_ids=torch.tensor([ids])).logits[0] for m in (plain, untrained))
    assert float((merged - unmerged).abs().max()) < 1e-4
    assert float((merged - before).abs().max()) > 0.01, "something was learned"


def test_an_evaluation_is_the_loss_that_transformers_finds(bench, model, capsys):
    import json

    from finetune.__main__ import main

    text = some_text(40, seed=3)
    (bench.root / "held.txt").write_text(text)
    assert main(["evaluate", str(model), str(bench.root / "held.txt"), "--documents", "line", "--block-size", "48",
                 "--cache", str(bench.root / "cache"), "--device", "cpu", "--json"]) == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    tokenizer = AutoTokenizer.from_pretrained(model)
    windows = plain_windows(text.splitlines(), tokenizer, 48, False, None, END)
    plain = GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32).eval()
    total = count = 0
    with torch.inference_mode():
        for window in windows:
            ids = torch.tensor([window])
            total += float(plain(input_ids=ids, labels=ids).loss) * (len(window) - 1)
            count += len(window) - 1
    assert told["tokens"] == count
    assert told["loss"] == pytest.approx(total / count, abs=1e-5)
    assert told["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert told["bits_per_byte"] == pytest.approx(total / math.log(2) / len(text.replace("\n", "").encode()), rel=1e-5)
