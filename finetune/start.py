"""What a training starts from: a model of `models/`, or a new one with a tokenizer of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from finetune.option_checks import is_unicode
from finetune.options import LIMITS, Options, changed, flag
from generate import END, ModelFolder, Refusal, model_homes, open_tokenizer

SPECIAL = {"bos": "<BOS>", "eos": "<EOS>", "pad": "<PAD>"}
WINDOW = 512  # positions of a new model, where --block-size does not say


@dataclass
class Start:
    """A tokenizer, the ids that have a meaning, and the folder that all of it is from (None: from nothing).

    `begin` goes before every document (None: nothing does), `end` after it, `pad` is only ever a filler.
    """

    tokenizer: tokenizers.Tokenizer
    begin: int | None
    end: int
    pad: int
    folder: ModelFolder | None
    added: bool  # whether there are more tokens than the folder's embedding has rows for

    @property
    def eos(self) -> int | list[int]:
        """Every token that ends a text, as `transformers` writes them: the base model's too, where it ends as that does."""
        known = self.folder.end_ids if self.folder else ()
        return list(known) if self.end in known and len(known) > 1 else self.end

    @property
    def context(self) -> int:
        """The token that a stream of documents begins after: what the model sees where a document is to come."""
        return self.end


def from_folder(folder: ModelFolder, options: Options) -> Start:
    """Begin with a model that exists, and add --special-tokens to its tokenizer; raises Refusal."""
    for name in ("width", "heads", "vocab", "zero_init"):
        if name in changed(options):
            raise Refusal(
                "{option} is for --from-scratch; {model} has a shape of its own.", option=flag(name), model=folder.name
            )
    tokenizer = open_tokenizer(folder.path)
    tokenizer.encode_special_tokens = True  # what spells a special token in a text is ordinary text
    if not options.special_tokens:
        if folder.end_id is None:
            raise Refusal(
                "{model} has no end token to close documents with; add one with --special-tokens eos.",
                model=folder.name,
            )
        return Start(tokenizer, folder.begin_id, folder.end_id, folder.end_id, folder, False)
    wanted = special_tokens(options)
    tokenizer.add_special_tokens([AddedToken(SPECIAL[name], special=True, normalized=False) for name in wanted])
    ids = {name: tokenizer.token_to_id(SPECIAL[name]) for name in wanted}
    end = ids.get("eos", folder.end_id)
    if end is None:
        raise Refusal("{model} has no end token; --special-tokens must name eos too.", model=folder.name)
    added = tokenizer.get_vocab_size(with_added_tokens=True) > folder.config.vocab_size
    return Start(tokenizer, ids.get("bos", folder.begin_id), end, ids.get("pad", end), folder, added)


def special_tokens(options: Options) -> list[str]:
    """The names in --special-tokens; raises Refusal for others, and where they could not be learned."""
    names = [name.strip() for name in options.special_tokens.split(",")]
    if not set(names) <= SPECIAL.keys():
        raise Refusal(
            "--special-tokens may name {known}, not {given!r:.80}.",
            known=", ".join(SPECIAL),
            given=options.special_tokens,
        )
    for name, on in (("--lora", options.lora), ("--freeze-embeddings", options.freeze_embeddings)):
        if on:
            raise Refusal(
                "--special-tokens needs the embedding to be trained, which {option} leaves as it is.", option=name
            )
    return names


def from_nothing(texts: Iterable[str], options: Options) -> Start:
    """Train a byte-level BPE on the texts; id 0 is the end token."""
    check_new(options)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocab, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return Start(tokenizer, None, 0, 0, None, False)


def with_tokenizer_of(folder: ModelFolder, options: Options) -> Start:
    """A new model that has the tokens of one that exists, and begins and ends its documents as that does."""
    if "vocab" in changed(options):
        raise Refusal("--vocab is for a new tokenizer; that of {model} has its own size.", model=folder.name)
    check_new(options)
    if folder.end_id is None:
        raise Refusal(
            "{model} has no end token to close documents with; take the tokenizer of another.", model=folder.name
        )
    tokenizer = open_tokenizer(folder.path)
    tokenizer.encode_special_tokens = True
    return Start(tokenizer, folder.begin_id, folder.end_id, folder.end_id, None, False)


def check_new(options: Options) -> None:
    """Raises Refusal for what makes no sense for a model that begins from nothing."""
    if options.special_tokens:
        raise Refusal("--special-tokens is for models that exist; a new one ends its documents with {end}.", end=END)
    for name in ("lora", "freeze_embeddings"):
        if getattr(options, name):
            raise Refusal(
                "{option} is for models that exist; of a new one everything must be trained.", option=flag(name)
            )


def block_size(start: Start, options: Options) -> int:
    """Tokens in a window; raises Refusal where the model has fewer positions."""
    most = int(LIMITS["block_size"][1]) if start.folder is None else start.folder.config.n_positions
    size = options.block_size or (WINDOW if start.folder is None else most)
    if not (2 <= size <= most):
        raise Refusal(
            "--block-size must be from 2 to {limit:,}, the window of this model, not {given:,}.", limit=most, given=size
        )
    return size


def find_folder(name: str, root: Path, option: str = "--model") -> Path:
    """The folder that an option means: a path, or a name under `root`; raises Refusal."""
    for path in (Path(name), *(home / name for home in model_homes(root))):
        if path.is_dir():
            if not is_unicode(path.resolve().name):
                raise Refusal(
                    "{option} {given!a:.200}: the folder's name is not UTF-8; rename it.", option=option, given=name
                )
            return path.resolve()
    if Path(name).is_file():
        raise Refusal(
            "{option} {given} is a file; give the folder that holds it with config.json and the tokenizer.",
            option=option,
            given=name,
        )
    of_hub = name if name.count("/") == 1 and not Path(name).parent.is_dir() else Path(name).name
    raise Refusal(
        "{option} {given!r:.200}: there is no such folder; `python -m generate download {name}` fetches a model from "
        "the Hugging Face hub into models/.",
        option=option,
        given=name,
        name=of_hub,
    )
