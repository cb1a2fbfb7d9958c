"""The contract of `models/NAME`, and the one place that checks it. Nothing here imports torch.

    config.json             GPT-2's hyper-parameters in `transformers`' names
    model.safetensors       the weights, `transformers`' names with or without the `transformer.` prefix or a trainer's;
                            or model-0000i-of-0000n.safetensors, with model.safetensors.index.json or without
    tokenizer.json          or vocab.json with merges.txt: a byte-level BPE; or vocab.txt: BERT's WordPiece, whose texts
                            begin with [CLS] and end with [SEP] or where another begins; or, in tokenizer.json, single characters
    generation_config.json  optional: defaults for the sampling options
    examples.json           optional: beginnings that show what it can, with their seeds, see examples.py
    certificate.json        optional: what `convert` found when it made the folder
    run.json                optional: how `finetune` trained it: options, data, losses, samples
    rubric.json             optional manifest: {"format": 1, "source": ..., "fingerprint": ..., "end": {"token_id": ..., "text": ...},
                            "begin": {"token_id": ...}: put before every prompt, where a model's texts all begin with it,
                            "can", "cannot": what its owner says of it, in a sentence each,
                            "earlier": the fingerprints of weights that stood here before, under the same name,
                            "measured": what each precision does to the model, see transformer/precision.py}

`fingerprint` is the sha256 of model.safetensors, of shards that of their sha256s. A plain Hugging Face folder has no manifest; one is derived.
`transformers` 5 loads a wrong n_head, a missing layer or a missing tokenizer without an error, so all is checked here.
"""

from pathlib import Path

import tokenizers

from generate.errors import Refusal
from generate.folders.config import Config, read_config
from generate.folders.examples import read_examples
from generate.folders.generation import read_defaults, read_ends
from generate.folders.json_files import is_index, read_json
from generate.folders.model_folder import ModelFolder, signature
from generate.folders.retold import A_FOLDER
from generate.folders.strangers import refuse_adapter, refuse_other_files
from generate.folders.tensors import check_tensors
from generate.folders.weights import stored_tensors, weight_files
from generate.text.bpe import END, check_reached
from generate.text.kinds import Kind, kind_of
from generate.text.tokenizer import Tokenizer, open_tokenizer
from generate.text.wordpiece import CLS, SEP

GPT2_END = 50_256  # what `transformers` writes into a GPT-2's config where nobody says otherwise


def check_folder(path: Path) -> ModelFolder:
    """Check all that can be known without reading the weights; raises Refusal with one sentence that says what to do."""
    if not (path / "config.json").exists():
        refuse_adapter(path)
        refuse_other_files(path)
    config, eos = read_config(path)
    files = weight_files(path)
    check_tensors(path.name, config, stored_tensors(path.name, files))
    opened = open_tokenizer(path)
    is_bert = kind_of(opened) == Kind.WORDPIECE
    ends = check_tokenizer(path, opened, config, eos)
    manifest = read_json(path, "rubric.json", optional=True)
    kinds = {"format": int, "begin": dict, "end": dict, "fingerprint": str, "earlier": list}
    if manifest.get("format", 1) != 1 or not all(isinstance(manifest.get(k, t()), t) for k, t in kinds.items()):
        raise Refusal("{model}: rubric.json is not of format 1; delete it, and it will be derived.", model=path.name)
    begin = manifest["begin"].get("token_id") if "begin" in manifest else opened.token_to_id(CLS) if is_bert else None
    if "token_id" in manifest.get("end", {}) and (end := manifest["end"]["token_id"]) not in ends:
        ends = [] if end is None else [end]
    for which, token in (("begin", begin), *(("end", end) for end in ends)):
        if not (which == "begin" and token is None) and not is_index(token, config.vocab_size):
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
    defaults, remarks = read_defaults(path)
    examples, left_out = read_examples(path)
    remarks += left_out
    tokenizer = Tokenizer(opened, config.vocab_size)
    return ModelFolder(
        name=path.name,
        path=path,
        config=config,
        weights=files,
        begin_id=begin,
        end_ids=tuple(ends),
        end_text=end_text,
        can=said(manifest.get("can")),
        cannot=said(manifest.get("cannot")),
        source=str(manifest.get("source", A_FOLDER)),
        claimed_fingerprint=manifest.get("fingerprint"),
        earlier=tuple(map(str, manifest.get("earlier", ()))),
        defaults=defaults,
        examples=examples,
        remarks=remarks if tokenizer.remark is None else (tokenizer.remark, *remarks),
        signature=signature(path),
        tokenizer=tokenizer,
    )


def said(value: object) -> str:
    """A sentence of the manifest; "" for what is none."""
    return " ".join(value.split())[:600] if isinstance(value, str) else ""


def check_tokenizer(path: Path, tokenizer: tokenizers.Tokenizer, config: Config, eos: object) -> list:
    """Check that the tokenizer fits the embedding, and its files each other; return the tokens that end a text."""
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
    try:
        check_reached(tokenizer)
    except Refusal as refusal:
        raise Refusal("{model}: {reason}", model=path.name, reason=refusal) from None
    ends, marker = read_ends(path, eos), tokenizer.token_to_id(END)
    if kind_of(tokenizer) != Kind.WORDPIECE:
        return ends or ([] if marker is None else [marker])
    ends = [end for end in ends if end != GPT2_END] or [tokenizer.token_to_id(SEP)]  # which its folders often have
    ends.append(tokenizer.token_to_id(CLS))  # another text begins there; GPT2-Chinese itself has [CLS] behind each
    return [*dict.fromkeys(end for end in ends if end is not None)]
