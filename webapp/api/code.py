"""A request as code, for a terminal and for Python: what would write a text that is there, or go on from one."""

import json
import shlex
from collections.abc import Mapping, Sequence

from generate import ModelFolder, Sampling, bias_pairs
from webapp.api.fields import ALL, USUAL, Origin

BY_OPTION = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "samples": "n",
}  # the names that clients know
DEFAULTS = Sampling().as_dict()
NO_SIGNATURE = {"store"}  # OpenAI's, which openai-python's completions do not take by name


def body_of(folder: ModelFolder, ids: Sequence[int], options: Mapping[str, object], first_sample: int = 0) -> dict:
    """The request that goes on from these tokens with a run's options, of which those that are usual are left out, and as
    those of its samples that begin with number `first_sample`.

    The prompt is a text, where that has just these tokens, else their ids.
    """
    text = folder.tokenizer.spell(ids).decode("utf-8", "replace")
    same = folder.encode_prompt(text, parse_special=True) == list(ids)
    body = {"model": folder.name, "prompt": text if same else list(ids)} | fields_of(options)
    return body | ({"first_sample": first_sample} if first_sample else {})


def fields_of(options: Mapping[str, object]) -> dict:
    """Options of ours as fields of a request."""
    found = {}
    for name, value in options.items():
        field = ALL.get(BY_OPTION.get(name, name))
        if field is None or not field.option or (name != "seed" and value == usual(name)):
            continue
        found[field.name] = dict(bias_pairs(value)) if name == "logit_bias" else value
    return found


def usual(name: str) -> object:
    """What an option is in a request that does not say it."""
    field = ALL[BY_OPTION.get(name, name)]
    if name in USUAL:
        return USUAL[name]
    return field.schema.get("default", DEFAULTS.get(name))


def as_curl(address: str, body: Mapping[str, object], needs_key: bool) -> str:
    """For a terminal; `address` is the server's, up to /v1."""
    lines = [f"curl {address}/completions", "-H 'Content-Type: application/json'"]
    if needs_key:
        lines.append('-H "Authorization: Bearer $RUBRIC_KEY"')
    data = json.dumps(body, ensure_ascii=False, indent=2)
    return " \\\n  ".join([*lines, f"-d {shlex.quote(data)}"])


def as_python(address: str, body: Mapping[str, object], needs_key: bool) -> str:
    """For Python with openai-python."""
    ours = {name: value for name, value in body.items() if is_ours(name)}
    key = 'os.environ["RUBRIC_KEY"]' if needs_key else '"none"'
    given = [f"    {name}={value!r},\n" for name, value in body.items() if name not in ours]
    given += [f"    extra_body={ours!r},\n"] if ours else []
    several = body.get("n", 1) != 1
    show = "for choice in answer.choices:\n    print(choice.text)\n" if several else "print(answer.choices[0].text)\n"
    return (
        ("import os\n\n" if needs_key else "")
        + f'from openai import OpenAI\n\nclient = OpenAI(base_url="{address}", api_key={key})\n'
        + f"answer = client.completions.create(\n{''.join(given)})\n{show}"
    )


def is_ours(name: str) -> bool:
    """Whether openai-python takes a field only among others that it does not know."""
    return ALL[name].origin is not Origin.OPENAI or name in NO_SIGNATURE
