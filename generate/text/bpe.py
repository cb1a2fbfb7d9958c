"""A byte-level BPE's vocabulary and merges: the two files that hold them, and whether they belong together."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import pre_tokenizers

from generate.errors import Refusal
from generate.mistaken import refuse_mistaken
from generate.text.alphabet import byte_alphabet
from generate.text.characters import split_half_character
from generate.text.incoming import read_text

END = "<|endoftext|>"
VERSION = "#version"
CONTRACTIONS = ("'re", "'ve", "'ll")  # words whose first two characters are none
CONTINUATION = bytes(range(0x80, 0xC0))  # what a character of UTF-8 goes on with


def read_value(file: Path) -> object:
    """What a JSON file holds; raises Refusal."""
    refuse_mistaken(file)
    text = read_text(file)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal("{file} is not JSON ({reason}).", file=file.name, reason=error) from None


def read_object(file: Path) -> dict:
    """A file that holds a JSON object; raises Refusal."""
    value = read_value(file)
    if not isinstance(value, dict):
        raise Refusal("{file} must hold a JSON object, not a {kind}.", file=file.name, kind=type(value).__name__)
    return value


def read_encoder(file: Path) -> dict[str, int]:
    """Tokens by id, of encoder.json or vocab.json; raises Refusal."""
    encoder = read_value(file)
    if not isinstance(encoder, dict) or not all(type(i) is int and i >= 0 for i in encoder.values()):
        raise Refusal("{file} must map tokens to ids.", file=file.name)
    if len(set(encoder.values())) != len(encoder):
        raise Refusal("{file} gives one id to several tokens.", file=file.name)
    return encoder


def read_merges(file: Path) -> list[tuple[str, str]]:
    """The merges in order, of vocab.bpe or merges.txt; raises Refusal.

    A first line may tell the version; any other that begins with # is a merge.
    """
    refuse_mistaken(file)
    lines = read_text(file).split("\n")
    first = 1 if lines[0].startswith(VERSION) else 0
    merges = [(number, line.split()) for number, line in enumerate(lines[first:], first + 1) if line.strip()]
    for number, merge in merges:
        if len(merge) != 2:
            raise Refusal("{file} line {line} must hold two tokens.", file=file.name, line=number)
    return [(left, right) for _, (left, right) in merges]


def byte_level(
    encoder: Mapping[str, int], merges: Sequence[tuple[str, str]], prefix: bool = False
) -> tokenizers.Tokenizer:
    """The tokenizer that they make, which with `prefix` reads a text as if a space stood before it; raises Refusal."""
    try:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=dict(encoder), merges=list(merges)))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and its panics are BaseException
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Refusal("The vocabulary and its merges do not belong together ({reason}).", reason=reason) from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def model_of(tokenizer: tokenizers.Tokenizer, part: str = "model") -> dict:
    """The model inside a tokenizer as tokenizer.json has it: {"vocab": {token: id}, "merges": [...], ...}, or another part."""
    return json.loads(tokenizer.to_str())[part]


def merges_of(model: Mapping) -> list[tuple[str, str]]:
    """The merges of `model_of`, which older files write as one string each."""
    return [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model.get("merges", ())]


def check_reached(tokenizer: tokenizers.Tokenizer) -> None:
    """Raise Refusal where tokens of the vocabulary can be reached by no merge: some of the merges are not there.

    Bytes need no merge, added tokens neither, nor does what the pre-tokeniser always cuts, such as `<pad>`: nobody can
    have learned that from text, so it is a special token that was written down as an ordinary one.
    """
    model = model_of(tokenizer)
    vocab, affixes = model.get("vocab"), ("continuing_subword_prefix", "end_of_word_suffix")
    if not isinstance(vocab, dict) or model.get("ignore_merges") or any(model.get(affix) for affix in affixes):
        return
    reached = reached_by(vocab, merges_of(model))
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    lost = [token for token in vocab if token not in reached and token not in added and is_word(token)]
    if lost:
        raise Refusal(
            "{count:,} of the vocabulary's {total:,} tokens can be reached by no merge, {example!r} for one: the merges "
            "(vocab.bpe, merges.txt) are cut short or another vocabulary's; copy both files again from one place.",
            count=len(lost),
            total=len(vocab),
            example=lost[0],
        )


def reached_by(vocab: Iterable[str], merges: Sequence[tuple[str, str]]) -> set[str]:
    """The tokens that merges make of single bytes, and these themselves."""
    reached, before = {token for token in vocab if len(token) == 1}, -1
    while len(reached) != before:  # merges may stand before those that make their parts
        before = len(reached)
        for left, right in merges:
            if left in reached and right in reached:
                reached.add(left + right)
    return reached


def is_word(token: str) -> bool:
    """Whether GPT-2's pre-tokeniser leaves a token (in the byte alphabet) whole; half characters at its ends may be of any
    kind, so they do not count."""
    alphabet = byte_alphabet()
    data = bytes(alphabet.get(character, ord("?")) for character in token).lstrip(CONTINUATION)
    text = split_half_character(data)[0].decode("utf-8", "replace")
    whole = len(pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)) <= 1
    return whole or any(contraction.startswith(text) for contraction in CONTRACTIONS)
