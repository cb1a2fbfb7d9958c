"""generation_config.json: how a model would be asked by itself, and the tokens that end its texts."""

from pathlib import Path

from generate.errors import Problem, Refusal
from generate.folders.json_files import is_index, read_json
from generate.sampling.options import BY_NAME, OPTIONS

FILE = "generation_config.json"
# All but those that are a matter of one's text or of the person who asks. By our names. Those that `transformers` has
# too (5.23: lengths, temperature, top_k, top_p, min_p, repetition_penalty) mean the same there.
DEFAULTS = tuple(
    option.name for option in OPTIONS if option.name not in ("end_at_sentence", "n_keep", "samples", "seed")
)


def read_defaults(path: Path) -> tuple[tuple[tuple[str, float], ...], tuple[Problem, ...]]:
    """The sampling options that it sets, and what is to be said of those that are beyond our limits and left out."""
    raw, found, remarks = read_json(path, FILE, optional=True), [], []
    if is_index(wanted := raw.get("max_new_tokens"), 10**9):
        # a model that by itself writes nothing would be of no use, so 0 counts as not given
        raw["max_new_tokens"] = min(wanted, int(BY_NAME["max_new_tokens"].high)) or None
    for name in DEFAULTS:
        if raw.get(name) is not None:
            try:
                found.append((name, BY_NAME[name].parse(raw[name])))
            except Refusal as refusal:
                remarks.append(Problem("{file} is not obeyed in this: {reason}", file=FILE, reason=refusal.problem))
    return tuple(found), tuple(remarks)


def read_ends(path: Path, config: object) -> list:
    """The tokens that end a text: eos_token_id of generation_config.json, else `config`, that of config.json.

    Each of a list does. Whether they are token ids is for the caller to check.
    """
    told = read_json(path, FILE, optional=True).get("eos_token_id", config)
    return told if isinstance(told, list) and told else [] if told is None else [told]
