"""The contract of `models/NAME`, and the one place that checks it. Nothing here imports torch.

    config.json             GPT-2's hyper-parameters in `transformers`' names
    model.safetensors       the weights, `transformers`' names with or without the `transformer.` prefix
    tokenizer.json          or vocab.json with merges.txt: a byte-level BPE
    generation_config.json  optional: defaults for the sampling options
    certificate.json        optional: what `convert` found when it made the folder
    run.json                optional: how `finetune` trained it: options, data, losses, samples
    rubric.json             optional manifest: {"format": 1, "source": ..., "fingerprint": ..., "end": {"token_id": ..., "text": ...},
                            "begin": {"token_id": ...}: put before every prompt, where a model's texts all begin with it,
                            "measured": what each precision does to the model, see transformer/precision.py}

`fingerprint` is the sha256 of model.safetensors. A plain Hugging Face folder has no manifest; one is derived.
`transformers` 5 loads a wrong n_head, a missing layer or a missing tokenizer without an error, so all is checked here.
"""

from pathlib import Path

from generate.errors import Refusal
from generate.folders.config import Config, read_config
from generate.folders.json_files import is_index, read_json
from generate.folders.model_folder import ModelFolder, signature
from generate.folders.tensors import check_tensors
from generate.sampling.options import BY_NAME
from generate.text.tokenizer import Tokenizer, open_tokenizer

DEFAULTS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")


def check_folder(path: Path) -> ModelFolder:
    """Check all that can be known without reading the weights; raises Refusal with one sentence that says what to do."""
    config, eos = read_config(path)
    check_tensors(path, config)
    end_id = check_tokenizer(path, config, eos)
    manifest = read_json(path, "rubric.json", optional=True)
    kinds = {"format": int, "begin": dict, "end": dict, "fingerprint": str}
    if manifest.get("format", 1) != 1 or not all(isinstance(manifest.get(k, t()), t) for k, t in kinds.items()):
        raise Refusal("{model}: rubric.json is not of format 1; delete it, and it will be derived.", model=path.name)
    begin, end = manifest.get("begin", {}).get("token_id"), manifest.get("end", {}).get("token_id", end_id)
    for which, token in (("begin", begin), ("end", end)):
        if token is not None and not is_index(token, config.vocab_size):
            raise Refusal(
                "{model}: the begin token {token!r} must be a token id below {vocab_size}; correct it."
                if which == "begin"
                else "{model}: the end token {token!r} must be a token id below {vocab_size}; correct it.",
                model=path.name,
                token=token,
                vocab_size=config.vocab_size,
            )
    end_text = manifest.get("end", {}).get("text")
    if end_text is not None and not (isinstance(end_text, str) and 0 < len(end_text) <= 200):
        raise Refusal(
            "{model}: the end text in rubric.json must be a string of 1 to 200 characters; correct it.", model=path.name
        )
    return ModelFolder(
        name=path.name,
        path=path,
        config=config,
        begin_id=begin,
        end_id=end,
        end_text=end_text,
        source=str(manifest.get("source", "a Hugging Face folder")),
        claimed_fingerprint=manifest.get("fingerprint"),
        defaults=read_defaults(path),
        signature=signature(path),
        tokenizer=Tokenizer(path, config.vocab_size),
    )


def check_tokenizer(path: Path, config: Config, eos: object) -> int | None:
    """Check that the tokenizer fits the embedding; return the end token's id, or None where there is no such token."""
    tokenizer = open_tokenizer(path)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size <= 1:
        raise Refusal(
            "{model}: its tokenizer has {size} token; copy the real tokenizer.json there.", model=path.name, size=size
        )
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if highest >= config.vocab_size:
        raise Refusal(
            "{model}: its tokenizer goes up to id {highest} but the embedding has {vocab_size} rows; copy the "
            "tokenizer that the model was trained with.",
            model=path.name,
            highest=highest,
            vocab_size=config.vocab_size,
        )
    generation = read_json(path, "generation_config.json", optional=True).get("eos_token_id", eos)
    generation = generation[0] if isinstance(generation, list) and generation else generation
    return generation if generation is not None else tokenizer.token_to_id("<|endoftext|>")


def read_defaults(path: Path) -> tuple[tuple[str, float], ...]:
    """The sampling options that generation_config.json sets, within our limits."""
    raw = read_json(path, "generation_config.json", optional=True)
    if is_index(wanted := raw.get("max_new_tokens"), 10**9):
        # a model that by itself writes nothing would be of no use, so 0 counts as not given
        raw["max_new_tokens"] = min(wanted, int(BY_NAME["max_new_tokens"].high)) or None
    try:
        return tuple((name, BY_NAME[name].parse(raw[name])) for name in DEFAULTS if raw.get(name) is not None)
    except Refusal as refusal:
        raise Refusal("{model}: generation_config.json: {reason}", model=path.name, reason=refusal) from None
