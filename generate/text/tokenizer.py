"""From text to token ids."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers

from generate.errors import Problem, Refusal
from generate.mistaken import refuse_mistaken
from generate.text.added import ADDED, CONFIG, SPECIAL, add_tokens
from generate.text.bpe import byte_level, read_encoder, read_merges, read_object
from generate.text.incoming import read_text
from generate.text.kinds import Kind, is_lossless, kind_of, remark_on
from generate.text.vocabulary import read_vocabulary
from generate.text.wordpiece import UNK, VOCAB, read_wordpiece

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    VOCAB,
    CONFIG,
    ADDED,
    SPECIAL,
)  # all that are looked at
# What tokenizers are known to change: the case, composed characters, ligatures, white space.
BLANKS = {" ": "Ġ", "\t": "ĉ", "\n": "Ċ"}  # as GPT-2's byte alphabet writes them
NOTHING_MORE = tokenizers.processors.Sequence([])  # is put around a text
PROBES = ("It's  A caf\u00e9, cafe\u0301 \ufb01n\t\n\n 12 ", " a")


class Tokenizer:
    """A tokenizer of the `tokenizers` library: byte-level BPE, BERT's WordPiece, or characters (see kinds.py). Text that
    spells the end marker is ordinary text, unless asked.

    `is_lossless`: the tokens of a text say all of it; else some of it may be left out (spaces), and what the vocabulary has not
    is the token `unknown_id`. `special_names` are how special tokens are written, by their ids. `remark` says what it makes of texts where that is
    not what was typed; None where it leaves them as they are.
    """

    def __init__(self, opened: tokenizers.Tokenizer, vocab_size: int):
        self._tokenizer = opened  # from now on its own
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a prompt is seven ordinary tokens
        self._is_bytes, self.is_lossless = kind_of(opened) == Kind.BYTES, is_lossless(opened)
        self._tokenizer.post_processor = (
            tokenizers.processors.ByteLevel(trim_offsets=False) if self._is_bytes else NOTHING_MORE
        )
        self._within = without_prefix(self._tokenizer)
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.vocabulary = read_vocabulary(self._tokenizer, vocab_size)
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_names = {index: added[index].content for index in sorted(self.vocabulary.special)}
        self.unknown_id = None if self.is_lossless else self._tokenizer.token_to_id(UNK)
        self.remark = self._remark() if self._is_bytes else remark_on(self._tokenizer)

    def encode(self, text: str, within: bool = False, parse_special: bool = False) -> list[int]:
        """Token ids of `text`, with no special tokens added. Their bytes are the text's own UTF-8, or what this tokenizer
        makes of it (all in lower case, say). `within` a text that goes on, no space is put before it.

        With `parse_special`, the names of special tokens ("<|endoftext|>") in the text are those tokens. A lone
        surrogate is encoded as U+FFFD. Raises Refusal when this tokenizer cannot write some character.
        """
        ids: list[int] = []
        for place, part, special in self._parts(text, parse_special):
            ids += [special] if special is not None else self._encode_ordinary(part, within and place == 0).ids
        return ids

    def places(self, text: str, parse_special: bool = False) -> list[tuple[int, int, int]]:
        """Each token of `encode`, with where it begins and ends in the text, in characters. Raises Refusal as that does."""
        found: list[tuple[int, int, int]] = []
        for place, part, special in self._parts(text, parse_special):
            if special is not None:
                found.append((special, place, place + len(part)))
                continue
            encoding = self._encode_ordinary(part, False)
            spans = zip(encoding.ids, encoding.offsets, strict=True)
            found += [(index, place + start, place + end) for index, (start, end) in spans]
        return found

    def _parts(self, text: str, parse_special: bool) -> Iterator[tuple[int, str, int | None]]:
        """The text cut at the names of special tokens: where each part begins, the part, and the token that it names, if any."""
        ids_of = {name: index for index, name in self.special_names.items()} if parse_special else {}
        if not ids_of:
            yield 0, text, None
            return
        longest_first, place = sorted(ids_of, key=len, reverse=True), 0
        for part in re.split(f"({'|'.join(map(re.escape, longest_first))})", text):
            if part:
                yield place, part, ids_of.get(part)
            place += len(part)

    def writable(self, text: str) -> str:
        """The text without the characters that this tokenizer cannot write."""
        try:
            self.encode(text)
        except Refusal:
            lost = {character for character in text if not self._can_write(character)}
            return "".join(character for character in text if character not in lost)
        return text

    def spell(self, ids: Iterable[int]) -> bytes:
        """The bytes of tokens, with the names of special ones: what `encode` reads with `parse_special`."""
        return b"".join(self.spelled(index) for index in ids)

    def spelled(self, index: int) -> bytes:
        """The bytes of a token, or the name of a special one."""
        name = self.special_names.get(index)
        return self.vocabulary.tokens[index] if name is None else name.encode()

    def _encode_ordinary(self, text: str, within: bool) -> tokenizers.Encoding:
        data = re.sub("[\ud800-\udfff]", "\ufffd", text).encode()
        encoding = (self._within if within else self._tokenizer).encode(data.decode(), add_special_tokens=False)
        if (
            self.is_lossless
            and self.vocabulary.bytes_of(encoding.ids) != data
            and not self._covers(encoding, data.decode())
        ):
            lost = next((character for character in data.decode() if not self._can_write(character)), None)
            if lost is None:
                raise Refusal("this model's tokenizer cannot write every character of the prompt.", "prompt")
            raise Refusal(
                "this model's tokenizer cannot write every character of the prompt, {character!r} for one.",
                "prompt",
                character=lost,
            )
        return encoding

    def _covers(self, encoding: tokenizers.Encoding, text: str) -> bool:
        """Whether every character went into some token that has bytes; an accent may be part of the letter before it."""
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        covered = {place for index, span in spans if self.vocabulary.tokens[index] for place in range(*span)}
        rest = (text[place] for place in range(len(text)) if place not in covered)
        return all(self._tokenizer.normalizer is not None and unicodedata.combining(character) for character in rest)

    def _remark(self) -> Problem | None:
        """Try it on texts; raises Refusal where it loses characters that it can write."""
        for probe in PROBES:
            text = "".join(character for character in probe if self._can_write(character))
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            read = self.vocabulary.bytes_of(encoding.ids).decode("utf-8", "replace")
            if read != text and not self._covers(encoding, text):
                raise Refusal(
                    "the tokenizer loses a part of {text!r}, which it reads as {read!r}; only such can be served that keep "
                    "all of a text.",
                    text=text,
                    read=read,
                )
            if read != text:
                return Problem(
                    "Its tokenizer reads {text!r} as {read!r}; texts are shown as it reads them.", text=text, read=read
                )
        return None

    def _can_write(self, character: str) -> bool:
        if self._is_bytes and character in BLANKS:
            return self._tokenizer.token_to_id(BLANKS[character]) is not None
        return self._covers(self._tokenizer.encode(character, add_special_tokens=False), character)


def without_prefix(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, but for the space that some put before every text."""
    setting = re.compile(r'("add_prefix_space":\s*)true')
    if tokenizer.pre_tokenizer is None or not setting.search(tokenizer.pre_tokenizer.__getstate__().decode()):
        return tokenizer
    other = tokenizers.Tokenizer.from_str(setting.sub(r"\1false", tokenizer.to_str()))
    other.encode_special_tokens = True
    return other


def open_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """Open `tokenizer.json`, else `vocab.json` with `merges.txt`, else `vocab.txt`, with the tokens that other files add;
    raises Refusal when none is usable."""
    whole, vocab, merges, words = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt", VOCAB))
    pair = vocab.exists() and merges.exists()
    if not whole.exists() and not pair and not words.exists():
        raise Refusal(
            "{model}: no tokenizer.json, and no vocab.json with merges.txt; copy them from where the model came from.",
            model=folder.name,
        )
    try:
        if whole.exists():
            return read_whole(whole)
        return read_pair(vocab, merges) if pair else read_wordpiece(words)
    except Refusal as refusal:
        raise Refusal(
            "{model}: its tokenizer cannot be read ({reason}); copy its files again.",
            model=folder.name,
            reason=str(refusal).rstrip("."),
        ) from None


def read_whole(file: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json, with what the files beside it add; raises Refusal."""
    refuse_mistaken(file)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(read_text(file))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and its panics are BaseException
        raise Refusal("{file}: {reason}", file=file.name, reason=error) from None
    add_tokens(tokenizer, file.parent)
    return tokenizer


def read_pair(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    """Vocabulary and merges in two files, with what the files beside them add; raises Refusal."""
    config = read_object(vocab.parent / CONFIG) if (vocab.parent / CONFIG).is_file() else {}
    tokenizer = byte_level(read_encoder(vocab), read_merges(merges), prefix=config.get("add_prefix_space") is True)
    add_tokens(tokenizer, vocab.parent)
    return tokenizer
