"""Tokens beside the vocabulary: those that a person added, and those that have a meaning; as `transformers` reads them.

tokenizer.json lists its own. Beside it, or beside vocab.json and merges.txt, may stand tokenizer_config.json and the older
added_tokens.json and special_tokens_map.json. Source: `_from_pretrained` in transformers 5, tokenization_utils_base.py.
"""

from pathlib import Path

import tokenizers
from tokenizers import AddedToken

from generate.errors import Refusal
from generate.text.bpe import END, read_object

CONFIG, ADDED, SPECIAL = "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTED = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def add_tokens(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Add to a tokenizer what the other files of its folder add; raises Refusal where an id cannot be had.

    A special token that no file gives an id is added only where the vocabulary has it: the model has no row for it else.
    """
    told = {name: read_object(folder / name) for name in (CONFIG, ADDED, SPECIAL) if (folder / name).is_file()}
    config = told.get(CONFIG, {})
    special = (
        special_names(config) if "added_tokens_decoder" in config else special_names(config | told.get(SPECIAL, {}))
    )
    for index, token in sorted(tokens_of(config, told.get(ADDED, {}), special).items()):
        add(tokenizer, token)
        if tokenizer.token_to_id(token.content) != index:
            raise Refusal(
                "the token {token!r} should have the id {index}, but gets {found}; copy the tokenizer's files again, all "
                "from one place",
                token=token.content,
                index=index,
                found=tokenizer.token_to_id(token.content),
            )
    for name in special:
        if tokenizer.token_to_id(name) is not None:
            add(tokenizer, AddedToken(name, special=True, normalized=False))


def tokens_of(config: dict, added: dict, special: list[str]) -> dict[int, AddedToken]:
    """The tokens that files give an id, by it; raises Refusal where they cannot be read."""
    try:
        if "added_tokens_decoder" in config:
            listed = config["added_tokens_decoder"].items()
            return {int(index): AddedToken(t["content"], **{f: t[f] for f in FLAGS if f in t}) for index, t in listed}
        if any(type(index) is not int for index in added.values()):
            raise ValueError
        return {i: AddedToken(t, special=t in special, normalized=t not in special) for t, i in added.items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        raise Refusal(
            "the added tokens cannot be read; copy {first} and {second} again", first=CONFIG, second=ADDED
        ) from None


def special_names(told: dict) -> list[str]:
    """The special tokens that are named, the end token first, which GPT-2 has whatever is told."""
    lists = [told.get(name) if isinstance(told.get(name), list) else [] for name in LISTED]
    values = [END, *(told.get(name) for name in NAMED), *lists[0], *lists[1]]
    names = [value.get("content") if isinstance(value, dict) else value for value in values]
    return [*dict.fromkeys(name for name in names if isinstance(name, str) and name)]


def add(tokenizer: tokenizers.Tokenizer, token: AddedToken) -> None:
    """Add a token, unless it was added already and has the meaning that it should have."""
    index = tokenizer.token_to_id(token.content)
    known = None if index is None else tokenizer.get_added_tokens_decoder().get(index)
    if known is None or (token.special and not known.special):
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
