"""Which precision `auto` takes: the fastest whose effect on this very model is negligible.

Measured once for each model on TEXT, at its first load, and kept in the folder's manifest: the mean of
KL(float32 || precision) in nats over all positions, and how often the likeliest token stays the same.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from generate.folders.model_folder import ModelFolder
from generate.transformer.model import GPT2
from generate.transformer.tuning import fastest_first

log = logging.getLogger(__name__)

TEXT = Path(__file__).with_name("measure.txt")  # the beginnings of three books in the public domain
MOST_TOKENS = 2048
AT_ONCE = 64  # positions whose logits are held at once
FAR_OFF = 1e9
# Of MOST_TOKENS the share that stays the same is known to one percent (three standard errors): the storyteller's int8 has 0.979
# of these, and 0.981 of 30,000. Where another token becomes the likeliest, 0.02 nats lay between the two (the median; at most 0.2).
MOST_KL, LEAST_SAME = 1e-3, 0.97

Load = Callable[[str], GPT2]  # from the name of a precision


def choose_precision(folder: ModelFolder, device: torch.device, load: Load) -> GPT2:
    """Load the model in the fastest precision that is good enough; on a GPU that is bfloat16 without measuring."""
    if device.type != "cpu":
        return load("bfloat16")
    reference: GPT2 | None = None
    known = folder.measured()
    for name in fastest_first(folder.config):
        if name == "float32":
            break
        model = None
        if name not in known:
            reference, model = reference or load("float32"), load(name)
            known[name] = found = effect(folder, reference, model)
            if not math.isfinite(found["kl"]):  # JSON has no NaN; a precision so far off is never taken
                found["kl"] = FAR_OFF
            folder.remember_measured(known)
            log.info("%s in %s: %s", folder.name, name, known[name])
        if negligible(known[name]):
            reference = None
            return model or load(name)
        model = None
    return reference or load("float32")


def negligible(effect: dict) -> bool:
    """Whether a precision leaves the predictions as they are, by `effect`'s numbers."""
    return effect["kl"] < MOST_KL and effect["same"] >= LEAST_SAME


def effect(folder: ModelFolder, reference: GPT2, model: GPT2) -> dict:
    """What a precision does to the predictions: {"kl": nats, "same": share, "tokens": how many were compared}."""
    ids = folder.encode_prompt(folder.tokenizer.writable(TEXT.read_text("utf-8")))[:MOST_TOKENS]
    kl, same = 0.0, 0
    for start in range(0, len(ids), folder.config.n_positions):
        pair = [(m, hidden_states(m, ids[start : start + folder.config.n_positions])) for m in (reference, model)]
        for low in range(0, len(pair[0][1]), AT_ONCE):
            p, q = (m.logits(states[low : low + AT_ONCE]).log_softmax(1) for m, states in pair)
            kl += (p.exp() * (p - q)).sum().item()
            same += (p.argmax(1) == q.argmax(1)).sum().item()
    return {"kl": float(f"{kl / len(ids):.3g}"), "same": round(same / len(ids), 4), "tokens": len(ids)}


def hidden_states(model: GPT2, ids: list[int]) -> Tensor:
    """Final hidden states [T, n_embd] of a text."""
    prefix = model.new_cache(1, 0).new_prefix(len(ids))
    given, positions = torch.tensor(ids, device=model.device), torch.arange(len(ids), device=model.device)
    return model.hidden([(prefix, given, positions)])
