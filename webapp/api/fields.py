"""The fields of a completion: one table for reading requests, for the description and for the page that explains them.

OpenAI's fields come first, then those of vLLM that are worth having, then every option of ours by its own name. A field
that is null counts as left out. The values of what is OpenAI's and not given are OpenAI's: temperature 1, nothing cut.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from generate import LISTS, OPTIONS, Problem, Refusal, Sampling, find_preset, parse_with_preset
from webapp.api.errors import Wrong

ROWS = 32  # texts that one request may have written at once
LAST_SAMPLE = 10**9  # suggestions are counted on and on; what goes on from one fits into a column's whole number
ALTERNATIVES = 10
MOST_WARNINGS = 20
BY_NAME = {option.name: option for option in OPTIONS + LISTS}
RANDOM_SEED = -1  # llama.cpp's word for none
OFF = -1  # vLLM's, of top_k


class Origin(StrEnum):
    """Where a field is from."""

    OPENAI = "OpenAI"
    VLLM = "vLLM"
    OURS = "Rubric"


@dataclass(frozen=True)
class Field:
    """One field: `read` makes its value of what came (never null), or raises Refusal. `schema` is for the description.

    `option` is the option of ours that it sets, if it is one.
    """

    name: str
    origin: Origin
    read: Callable[[str, object], object]
    schema: Mapping
    meaning: str
    option: str = ""


def quoted(value: object) -> str | Problem:
    """What was given, as a message may quote it; of a long one its beginning."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return Problem("a number of more than 40 digits")  # Python refuses to print the longest ones
    if isinstance(value, list):
        return Problem("a list" if value else "an empty list")
    return Problem("an object") if isinstance(value, dict) else json.dumps(value, ensure_ascii=False)[:60]


def flag(name: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong("{name} must be true or false, not {given}.", name, name=name, given=quoted(value))
    return value


def string(name: str, value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise Wrong("{name} must be a string, not {given}.", name, name=name, given=quoted(value))
    return value


def whole(low: int, high: int) -> Callable[[str, object], int]:
    """A reader of whole numbers within limits."""

    def read(name: str, value: object) -> int:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(number, bool) or not isinstance(number, int) or not (low <= number <= high):
            raise Wrong(
                "{name} must be a whole number from {low} to {high}, not {given}.",
                name,
                name=name,
                low=low,
                high=high,
                given=quoted(value),
            )
        return number

    return read


def option(name: str) -> Callable[[str, object], float]:
    """A reader of the value of one of our numeric options, whatever the field is called. JSON has numbers: no string is one."""

    def read(called: str, value: object) -> float:
        if isinstance(value, str):
            raise Wrong("{name} must be a number, not {given}.", called, name=called, given=quoted(value))
        return replace(BY_NAME[name], name=called).parse(value)

    return read


def strings(name: str) -> Callable[[str, object], list[str]]:
    """A reader of one of our lists: a string is a list of one, taken as it is."""

    def read(called: str, value: object) -> list[str]:
        if not isinstance(value, str | list):
            raise Wrong(
                "{name} must be a string or a list of strings, not {given}.", called, name=called, given=quoted(value)
            )
        return list(BY_NAME[name].parse([value] if isinstance(value, str) else value))

    return read


def biases(name: str, value: object) -> list[str]:
    """OpenAI's mapping of token ids (or words, ours) to numbers, or llama.cpp's list of pairs of them."""
    if isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 for one in value):
        value = {one if isinstance(one, str) else quoted(one): bias for one, bias in value}
    if not isinstance(value, dict):
        raise Wrong("{name} must be an object, not {given}.", name, name=name, given=quoted(value))
    for token, bias in value.items():
        if isinstance(bias, bool) or not isinstance(bias, int | float):
            raise Wrong(
                "{name} must give {token} a number, not {given}.",
                name,
                name=name,
                token=quoted(token),
                given=quoted(bias),
            )
    return list(BY_NAME["logit_bias"].parse(value))


def top_k(name: str, value: object) -> float:
    """How many tokens to choose among; vLLM's -1 is off, as 0 is."""
    return 0 if value == OFF and not isinstance(value, bool) else option("top_k")(name, value)


def seed(name: str, value: object) -> float | None:
    """A seed; None for llama.cpp's -1, by which it draws one."""
    drawn = value == RANDOM_SEED and not isinstance(value, bool)
    return None if drawn else option("seed")(name, value)


def no_suffix(name: str, value: object) -> None:
    """Refused: GPT-2 writes what follows a text."""
    if string(name, value):
        raise Wrong(
            "suffix cannot be had: GPT-2 was trained to go on from a text, and not to fill a gap before another one.",
            name,
        )


def prompts(name: str, value: object) -> list[str | list[int]]:
    """OpenAI's four forms: a string, a list of strings, a list of token ids, a list of lists of them."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise Wrong(
            "{name} must be a string, a list of strings, a list of token ids or a list of such lists, not {given}.",
            name,
            name=name,
            given=quoted(value),
        )
    if all(isinstance(one, str) for one in value):
        return value
    if all(isinstance(one, list) and one for one in value) and all(map(are_ids, value)):
        return value
    if are_ids(value):
        return [value]
    raise Wrong(
        "{name} must hold either strings, or token ids, or lists of token ids that are not empty; it holds something else.",
        name,
        name=name,
    )


def are_ids(value: list) -> bool:
    """Whether a list holds what token ids can be: whole numbers from 0 on."""
    return all(type(one) is int and 0 <= one < 2**32 for one in value)


def end_ids(name: str, value: object) -> list[int]:
    """Token ids; which of them there are is the model's to say."""
    if not isinstance(value, list) or not are_ids(value):
        raise Wrong("{name} must be a list of token ids, not {given}.", name, name=name, given=quoted(value))
    return value


def stream_options(name: str, value: object) -> dict[str, bool]:
    """An object of flags."""
    if not isinstance(value, dict):
        raise Wrong("{name} must be an object, not {given}.", name, name=name, given=quoted(value))
    return {key: flag(f"{name}.{key}"[:60], one) for key, one in value.items() if one is not None}


def preset(name: str, value: object) -> str:
    """The name of a preset of ours."""
    return find_preset(value).name if value != "" else ""


def number_schema(name: str) -> dict:
    """The schema of one of our numeric options."""
    one = BY_NAME[name]
    return {"type": "integer" if one.is_whole else "number", "minimum": one.low, "maximum": one.high}


FLAG, STRING = {"type": "boolean", "default": False}, {"type": "string"}
STRINGS = {"anyOf": [STRING, {"type": "array", "items": STRING}]}
IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
PROMPT = {"anyOf": [STRING, {"type": "array", "items": STRING, "minItems": 1}, IDS, {"type": "array", "items": IDS}]}
BIAS = {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}}
COUNT = {"type": "integer", "minimum": 0, "maximum": ALTERNATIVES}
USAGE = {"type": "object", "properties": {"include_usage": FLAG}}


def numeric(name: str, origin: Origin, meaning: str, default: float | None = None, ours: str = "") -> Field:
    """A field that is one of our numeric options, perhaps by another name."""
    ours = ours or name
    schema = number_schema(ours) | ({} if default is None else {"default": default})
    return Field(name, origin, option(ours), schema, meaning, ours)


FIELDS = (
    Field("model", Origin.OPENAI, string, STRING, "The model; left out, the one that the server offers first."),
    Field(
        "prompt",
        Origin.OPENAI,
        prompts,
        PROMPT,
        "What to go on from: a string, several, token ids, or several lists of them. Ids are taken as they are.",
    ),
    Field(
        "best_of", Origin.OPENAI, whole(1, ROWS), number_schema("samples"), "Write so many, and answer the n likeliest."
    ),
    Field(
        "echo",
        Origin.OPENAI,
        flag,
        FLAG,
        "Answer the prompt too, with its log-probabilities where those are asked for.",
    ),
    numeric("frequency_penalty", Origin.OPENAI, "Make a token less likely each time that it stands in the text.", 0),
    Field(
        "logit_bias", Origin.OPENAI, biases, BIAS, "What to add to the logits of tokens, by their ids.", "logit_bias"
    ),
    Field(
        "logprobs",
        Origin.OPENAI,
        whole(0, ALTERNATIVES),
        COUNT,
        "Tell each token's log-probability, before any sampling, and those of so many of the likeliest.",
    ),
    numeric("max_tokens", Origin.OPENAI, "How many tokens to write at the most.", 16, "max_new_tokens"),
    numeric("n", Origin.OPENAI, "How many continuations of each prompt.", 1, "samples"),
    numeric("presence_penalty", Origin.OPENAI, "Make a token less likely once it stands in the text.", 0),
    Field(
        "seed",
        Origin.OPENAI,
        seed,
        number_schema("seed") | {"minimum": RANDOM_SEED},
        "The number that luck is made of; left out, one is drawn and told.",
        "seed",
    ),
    Field(
        "stop",
        Origin.OPENAI,
        strings("stop"),
        STRINGS,
        "Texts that end a continuation, up to eight; not shown.",
        "stop",
    ),
    Field("stream", Origin.OPENAI, flag, FLAG, "Answer in server-sent events while it is written."),
    Field(
        "stream_options", Origin.OPENAI, stream_options, USAGE, "With include_usage, a last event counts the tokens."
    ),
    Field("suffix", Origin.OPENAI, no_suffix, STRING, "Refused: GPT-2 cannot fill a gap."),
    numeric("temperature", Origin.OPENAI, "0 always takes the likeliest token.", 1),
    numeric("top_p", Origin.OPENAI, "Choose among the likeliest tokens that make up this share.", 1),
    Field("user", Origin.OPENAI, string, STRING, "Taken and not used."),
    Field("store", Origin.OPENAI, flag, FLAG, "Keep it as a run with a page of its own; the answer has its address."),
    Field(
        "top_k",
        Origin.VLLM,
        top_k,
        number_schema("top_k") | {"minimum": OFF, "default": 0},
        "Choose among so many of the likeliest tokens; 0 is off, and -1.",
        "top_k",
    ),
    numeric("min_p", Origin.VLLM, "Choose among tokens at least this share as likely as the likeliest.", 0),
    numeric("min_tokens", Origin.VLLM, "No text ends before so many tokens.", 0, "min_new_tokens"),
    Field("ignore_eos", Origin.VLLM, flag, FLAG, "Write max_tokens tokens, whatever comes."),
    Field(
        "stop_token_ids",
        Origin.VLLM,
        end_ids,
        IDS | {"minItems": 0},
        "Refused but for the model's own end tokens, which end its texts anyway: give texts to end at as stop.",
    ),
    Field(
        "prompt_logprobs",
        Origin.VLLM,
        whole(0, ALTERNATIVES),
        COUNT,
        "Tell those of the prompt's tokens, by their ids, without echoing it.",
    ),
    Field("return_token_ids", Origin.VLLM, flag, FLAG, "Tell the ids of the prompt's tokens and of those written."),
    Field("return_tokens_as_token_ids", Origin.VLLM, flag, FLAG, "Spell tokens token_id:N instead of by their text."),
    Field(
        "parse_special",
        Origin.OURS,
        flag,
        FLAG | {"default": True},
        "Whether <|endoftext|> in a prompt is the end token, as elsewhere; false for texts of strangers.",
    ),
    Field(
        "first_sample",
        Origin.OURS,
        whole(0, LAST_SAMPLE),
        {"type": "integer", "minimum": 0, "maximum": LAST_SAMPLE, "default": 0},
        "Which sample of a run with this seed the first choice is: with 2 it says what the third would say.",
    ),
    Field("preset", Origin.OURS, preset, STRING, "One of Rubric's presets, under whatever else is given."),
)
OURS = tuple(
    numeric(one.name, Origin.OURS, one.meaning) for one in OPTIONS if one.name not in {given.name for given in FIELDS}
) + tuple(
    Field(one.name, Origin.OURS, strings(one.name), STRINGS, one.meaning, one.name)
    for one in LISTS
    if one.name not in {given.name for given in FIELDS}
)
ALL = {one.name: one for one in FIELDS + OURS}
USUAL = {"max_new_tokens": 16, "temperature": 1.0, "top_k": 0}  # what OpenAI has where ours is another


@dataclass(frozen=True)
class Asked:
    """A request that was read: the fields by name as far as they were given, and options of ours by theirs."""

    fields: Mapping[str, object]
    options: Mapping[str, object]
    warnings: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> object:
        return self.fields.get(name)

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts; one that is left out is empty, and begins as a text does."""
        return self.fields.get("prompt") or [""]

    @property
    def n(self) -> int:
        """How many choices each prompt has in the answer."""
        return self.options.get("samples", 1)

    @property
    def samples(self) -> int:
        """How many are written of each."""
        return self.fields.get("best_of") or self.n

    @property
    def most(self) -> int:
        """How many tokens are written at the most."""
        return self.options.get("max_new_tokens", USUAL["max_new_tokens"])

    @property
    def tells_prompt(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens are told."""
        return (bool(self["echo"]) and self["logprobs"] is not None) or self["prompt_logprobs"] is not None

    @property
    def needs_statistics(self) -> bool:
        """Whether more than the tokens themselves is told, or kept."""
        return self["logprobs"] is not None or self.tells_prompt or self.samples > self.n or bool(self["store"])

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the counts."""
        return bool((self["stream_options"] or {}).get("include_usage"))

    def sampling(self, defaults: Mapping[str, float]) -> Sampling:
        """The options for a model with these defaults, which count where a preset is asked for; raises Refusal."""
        given = {"max_new_tokens": self.most, **self.options, "samples": self.samples, "preset": self["preset"]}
        if self["ignore_eos"]:
            given["min_new_tokens"] = self.most
        return parse_with_preset(given, defaults if self["preset"] else USUAL)


def read(body: Mapping[str, object]) -> Asked:
    """Read a request; raises Refusal naming the field that cannot be as it is."""
    given = {name: value for name, value in body.items() if value is not None}
    found = {name: ALL[name].read(name, value) for name, value in given.items() if name in ALL}
    asked = Asked(found, options_of(found), tuple(warnings_of(given)))
    if "best_of" in found and asked.samples < asked.n:
        raise Wrong("best_of must be at least n, {n}, not {given}.", "best_of", n=asked.n, given=asked.samples)
    if asked["stream"] and asked.samples > asked.n:
        raise Wrong("best_of cannot be streamed: which are the best is known in the end.", "best_of")
    if "stream_options" in found and not asked["stream"]:
        raise Wrong("stream_options can only be given with stream: true.", "stream_options")
    if (rows := asked.samples * len(asked.prompts)) > ROWS:
        raise Wrong(
            "A request may have {most} texts written at once, and this asks for {rows}: {prompts} prompts, {samples} of each.",
            "n" if asked.samples > 1 else "prompt",
            most=ROWS,
            rows=rows,
            prompts=len(asked.prompts),
            samples=asked.samples,
        )
    return asked


def options_of(found: Mapping[str, object]) -> dict[str, object]:
    """Our options by their own names; raises Refusal where one was given by two names, differently."""
    options, names = {}, {}
    for name, value in found.items():
        ours = ALL[name].option
        if ours and ours in options and options[ours] != value:
            raise Wrong("{name} and {other} are the same, and differ.", name, name=name, other=names[ours])
        if ours:
            options[ours], names[ours] = value, name
    return options


def warnings_of(given: Mapping[str, object]) -> list[str]:
    """What was asked for and has no effect, or another one than a person may think."""
    unknown = sorted(name for name in given if name not in ALL)
    found = [f"{name[:60]} is not known here and had no effect." for name in unknown[:MOST_WARNINGS]]
    if len(unknown) > MOST_WARNINGS:
        found.append(f"{len(unknown) - MOST_WARNINGS} more fields are not known here and had no effect.")
    if given.get("ignore_eos") is True and given.get("stop"):
        found.append("ignore_eos lets stop strings pass too.")
    return found


def refused_field(refusal: Refusal, asked: Asked) -> str | None:
    """The name by which the request knows the option that a refusal is about."""
    names = {ALL[name].option: name for name in asked.fields if ALL[name].option}
    return names.get(refusal.field, refusal.field)
