"""The API in OpenAPI's words, made from the table of fields."""

from webapp.api.fields import ALL, Field

VERSION = "3.1.0"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
NUMBERS = {"type": ["number", "null"]}
LOGPROBS = {
    "type": ["object", "null"],
    "properties": {
        "tokens": {"type": "array", "items": {"type": "string"}},
        "token_logprobs": {"type": "array", "items": NUMBERS},
        "top_logprobs": {
            "type": "array",
            "items": {"type": ["object", "null"], "additionalProperties": {"type": "number"}},
        },
        "text_offset": {"type": "array", "items": {"type": "integer"}},
    },
}
IDS = {"type": "array", "items": {"type": "integer"}}
CHOICE = {
    "type": "object",
    "required": ["index", "text", "logprobs", "finish_reason"],
    "properties": {
        "index": {"type": "integer"},
        "text": {"type": "string"},
        "logprobs": LOGPROBS,
        "finish_reason": {"enum": ["stop", "length", None]},
        "token_ids": IDS,
        "prompt_token_ids": IDS,
        "prompt_logprobs": {"type": "array", "items": {"type": ["object", "null"]}},
    },
}
COUNT = {"type": "integer"}
USAGE = {
    "type": ["object", "null"],
    "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
}
RUBRIC = {
    "type": "object",
    "properties": {
        "seed": {"type": "integer"},
        "url": {"type": "string"},
        "urls": {"type": "array", "items": {"type": "string"}},
    },
}
COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "text_completion"},
        "created": COUNT,
        "model": {"type": "string"},
        "system_fingerprint": {"type": ["string", "null"]},
        "choices": {"type": "array", "items": CHOICE},
        "usage": USAGE,
        "warnings": {"type": "array", "items": {"type": "string"}},
        "rubric": RUBRIC,
    },
}
MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": COUNT,
        "owned_by": {"type": "string"},
        "max_model_len": COUNT,
    },
}
MODELS = {"type": "object", "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": MODEL}}}
TEXT = {"type": "string"}
TOKENIZE = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "model": TEXT,
        "prompt": TEXT,
        "add_special_tokens": {"type": "boolean", "default": True},
        "parse_special": {"type": "boolean", "default": True},
    },
}
TOKENIZED = {"type": "object", "properties": {"tokens": IDS, "count": COUNT, "max_model_len": COUNT}}
DETOKENIZE = {"type": "object", "required": ["tokens"], "properties": {"model": TEXT, "tokens": IDS}}
DETOKENIZED = {"type": "object", "properties": {"prompt": TEXT}}
NAME = {"type": ["string", "null"]}
TOKENIZER = {"type": "object", "properties": {"bos_token": NAME, "eos_token": NAME, "pad_token": NAME}}


def describe(address: str) -> dict:
    """The description of the API at this address, which ends before /v1."""
    return {
        "openapi": VERSION,
        "info": {"title": "Rubric", "version": "1", "summary": "OpenAI's completions over GPT-2"},
        "servers": [{"url": address}],
        "security": [{"key": []}, {}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Completion": COMPLETION, "Request": request_schema(), "Error": ERROR},
        },
        "paths": {
            "/v1/completions": {"post": completions()},
            "/v1/models": {"get": operation("The models that can be asked for.", MODELS)},
            "/v1/models/{model}": {
                "get": operation("One of them.", MODEL)
                | {"parameters": [{"name": "model", "in": "path", "required": True, "schema": TEXT}]}
            },
            "/tokenize": {"post": operation("From text to token ids.", TOKENIZED, TOKENIZE)},
            "/detokenize": {"post": operation("From token ids to text.", DETOKENIZED, DETOKENIZE)},
            "/tokenizer_info": {"get": operation("What the special tokens are called.", TOKENIZER)},
        },
    }


def request_schema() -> dict:
    """The body of a completion. Fields that are not named here are taken, and told of in `warnings`."""
    return {"type": "object", "properties": {name: schema_of(field) for name, field in ALL.items()}}


def schema_of(field: Field) -> dict:
    """A field, which may be null."""
    return {
        "description": f"{field.meaning} ({field.origin}'s)",
        "anyOf": [{k: v for k, v in field.schema.items() if k != "default"}, {"type": "null"}],
    } | ({"default": field.schema["default"]} if "default" in field.schema else {})


def operation(summary: str, answer: dict, body: dict | None = None) -> dict:
    """One address and method."""
    found = {"summary": summary, "responses": {"200": answered(summary, answer), "4XX": answered("Refused.", ERROR)}}
    return found if body is None else found | {"requestBody": {"required": True, "content": as_json(body)}}


def completions() -> dict:
    """The address that all else is for."""
    whole = {"$ref": "#/components/schemas/Completion"}
    found = operation("Go on from a text.", whole, {"$ref": "#/components/schemas/Request"})
    found["responses"]["200"]["content"]["text/event-stream"] = {"schema": TEXT}
    found["responses"]["503"] = answered("Busy; Retry-After says for how long.", ERROR)
    return found


def answered(meaning: str, schema: dict) -> dict:
    """An answer in JSON."""
    return {"description": meaning, "content": as_json(schema)}


def as_json(schema: dict) -> dict:
    """A content that is JSON."""
    return {"application/json": {"schema": schema}}
