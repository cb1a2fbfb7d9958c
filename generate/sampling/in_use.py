"""Which samplers a run asks for, so that an engine can say which of them it has."""

from collections.abc import Collection

from generate.errors import Refusal
from generate.sampling.options import BY_NAME, LISTS, Sampling

EVERYWHERE = frozenset({"temperature", "top_k", "top_p"})
OFF = {
    name: BY_NAME[name].off
    for name in (
        *("top_k", "top_p", "min_p", "top_n_sigma", "xtc_probability"),
        *("repetition_penalty", "frequency_penalty", "presence_penalty", "dry_multiplier"),
    )
} | {"logit_bias": (), "banned_phrases": ()}
SAMPLERS = EVERYWHERE | OFF.keys()
TOGETHER = {"dry_multiplier": ("dry_base", "dry_allowed_length", "dry_range", "dry_sequence_breakers")}
TOGETHER |= {"xtc_probability": ("xtc_threshold",)}  # options that say how one of the samplers acts


def in_use(sampling: Sampling) -> frozenset[str]:
    """The samplers that act in a run: those whose option is not at the value that switches it off, and temperature."""
    return frozenset(name for name, off in OFF.items() if getattr(sampling, name) != off) | {"temperature"}


def without_effect(samplers: Collection[str]) -> frozenset[str]:
    """The options that an engine which has only these samplers does nothing with."""
    missing = SAMPLERS - set(samplers)
    return missing.union(*(TOGETHER.get(name, ()) for name in missing))


def require_samplers(sampling: Sampling, samplers: Collection[str]) -> None:
    """Raise Refusal where a run asks for a sampler that is none of these."""
    missing = sorted(in_use(sampling) - set(samplers))
    if not missing or sampling.max_new_tokens == 0:
        return
    name = missing[0]
    if name in {option.name for option in LISTS}:
        raise Refusal("This server's engine has no {name}; leave it empty.", name, name=name)
    raise Refusal(
        "This server's engine has no {name}; set it to {off:g}, which is off.", name, name=name, off=OFF[name]
    )
