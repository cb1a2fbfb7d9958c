"""What a client without a tokenizer of its own asks at the server's root, as vLLM answers it: text to ids, and back."""

from flask import Blueprint, request

from webapp.api.body import json_body
from webapp.api.errors import Wrong, not_here
from webapp.api.fields import are_ids, flag, quoted, string
from webapp.api.guard import guard, open_to_keys
from webapp.state import state

blueprint = Blueprint("api_tokens", __name__)
guard(blueprint)

OTHERS = ("PUT", "PATCH", "DELETE")


@blueprint.route("/tokenize", methods=["POST", "OPTIONS"])
@open_to_keys
def tokenize():
    """The ids of `prompt`. `add_special_tokens` (true) puts the token first that the model begins every text with, if any."""
    body, desk = json_body(), state().api
    folder = desk.model(optional(body, "model", string, None))
    prompt = optional(body, "prompt", string, None)
    if prompt is None:
        raise Wrong("prompt is missing: the text to be tokenized.", "prompt")
    desk.check_size(len(prompt.encode("utf-8", "replace")))
    ids = folder.tokenizer.encode(prompt, parse_special=optional(body, "parse_special", flag, True))
    if (
        optional(body, "add_special_tokens", flag, True)
        and folder.begin_id is not None
        and ids[:1] != [folder.begin_id]
    ):
        ids = [folder.begin_id, *ids]
    return {"tokens": ids, "count": len(ids), "max_model_len": folder.config.n_positions}


@blueprint.route("/detokenize", methods=["POST", "OPTIONS"])
@open_to_keys
def detokenize():
    """The text of `tokens`; a special token reads as its name, and half a character at either end as U+FFFD."""
    body, desk = json_body(), state().api
    folder = desk.model(optional(body, "model", string, None))
    ids = body.get("tokens")
    if not isinstance(ids, list) or not are_ids(ids):
        raise Wrong("tokens must be a list of token ids, not {given}.", "tokens", given=quoted(ids))
    desk.check_ids(folder, ids, "tokens")
    return {"prompt": folder.tokenizer.spell(ids).decode("utf-8", "replace")}


@blueprint.route("/tokenizer_info", methods=["GET", "OPTIONS"])
@open_to_keys
def tokenizer_info():
    """What the special tokens are called."""
    folder = state().api.model(request.args.get("model"))
    begin = folder.end_id if folder.begin_id is None else folder.begin_id
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": folder.tokenizer.special_names.get(begin),
        "eos_token": folder.end_name,
        "pad_token": None,
        "vocab_size": folder.config.vocab_size,
        "model_max_length": folder.config.n_positions,
        "model": folder.name,
    }


@blueprint.route("/tokenize", methods=["GET", *OTHERS])
@blueprint.route("/detokenize", methods=["GET", *OTHERS])
@blueprint.route("/tokenizer_info", methods=["POST", *OTHERS])
@open_to_keys
def not_by_this_method():
    """One of these by another method, in the form that clients of the API read."""
    raise not_here(request.method, request.path)


def optional(body: dict, name: str, read, default: object) -> object:
    """A field that may be left out or null."""
    value = body.get(name)
    return default if value is None else read(name, value)
