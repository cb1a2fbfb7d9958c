"""BERT's vocabulary, which most Chinese GPT-2s have: [CLS] before a text, [SEP] behind it, [UNK] for what it cannot say.

Source: google-research/bert, tokenization.py; `BertTokenizer` in transformers, with which it agrees in every id.
"""

import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from generate.errors import Refusal
from generate.mistaken import refuse_mistaken
from generate.text.added import CONFIG, add_tokens
from generate.text.bpe import read_object
from generate.text.incoming import read_text

VOCAB = "vocab.txt"
CLS, SEP, UNK = "[CLS]", "[SEP]", "[UNK]"
UNSEEN = ("[PAD]", CLS, SEP, "[MASK]")  # no part of a text; [UNK] is one, and shown
SETTINGS = {
    "do_lower_case": True,
    "tokenize_chinese_chars": True,
    "strip_accents": None,
}  # and what BertTokenizer takes


def read_wordpiece(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a vocab.txt, a token a line, as tokenizer_config.json beside it sets it; raises Refusal."""
    refuse_mistaken(file)
    lines = read_text(file).removesuffix("\n").split("\n")
    vocab = {token: index for index, token in enumerate(lines)}
    missing = [name for name in (CLS, SEP, UNK) if name not in vocab]
    if missing:
        raise Refusal(
            "{file} has no {missing}, so it is no vocabulary of BERT's kind",
            file=file.name,
            missing=", ".join(missing),
        )
    told = read_object(file.parent / CONFIG) if (file.parent / CONFIG).is_file() else {}
    lower, chinese, accents = (told.get(name, default) for name, default in SETTINGS.items())
    for name, value in zip(SETTINGS, (lower, chinese, accents), strict=True):
        if not isinstance(value, bool) and not (name == "strip_accents" and value is None):
            raise Refusal(
                "{name} in {file} must be true or false, not {value!r:.40}", name=name, file=CONFIG, value=value
            )
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=UNK, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in UNSEEN if name in vocab])
    add_tokens(tokenizer, file.parent)
    return tokenizer


def piece_bytes(token: str, prefix: str) -> bytes:
    """How a token is written wherever it stands: what goes on with a word as it is, a word of letters after a space.

    A token's bytes do not depend on its neighbours, as those of GPT-2 do not; so the space that BERT leaves out is put before
    words of scripts that have spaces, and never before a Chinese character, a digit or a sign, which need none.
    """
    if prefix and token.startswith(prefix) and len(token) > len(prefix):
        return token[len(prefix) :].encode()
    return b" " * is_spaced(token) + token.encode()


def is_spaced(token: str) -> bool:
    """Whether a token begins with a letter of a script that puts spaces between its words."""
    return token[:1].isalpha() and unicodedata.east_asian_width(token[0]) not in ("W", "F", "H")
