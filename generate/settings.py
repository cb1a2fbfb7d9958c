"""Every setting of the server and the engine: its name in the environment, its default, its meaning.

The README lists this table (a test keeps the two alike). Values are read once, at start.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from generate.errors import Refusal
from generate.values import addresses, database, folder, host, key, one_of, password, public_url, rate, whole


@dataclass(frozen=True)
class Setting:
    """One variable of the environment; `parse` makes its value of the text, or raises Refusal with the reason."""

    name: str
    default: str
    meaning: str
    parse: Callable[[str], Any] = str
    secret: bool = False  # its value is never shown


SETTINGS = (
    Setting(
        "RUBRIC_MODELS",
        "",
        "Folder that holds one folder per model; empty: `models/` beside the code, or where Rubric is installed, in the user's data folder.",
        folder,
    ),
    Setting("RUBRIC_MODEL", "storyteller", "Model that the page offers first and the server loads at start."),
    Setting(
        "RUBRIC_DEVICE", "auto", "`cpu`, `cuda`, or `auto`: CUDA when there is one.", one_of("auto", "cpu", "cuda")
    ),
    Setting(
        "RUBRIC_PRECISION",
        "auto",
        "`float32`, `bfloat16`, `int8` (CPU), or `auto`: the fastest that leaves a model's predictions as they are.",
        one_of("auto", "float32", "bfloat16", "int8"),
    ),
    Setting(
        "RUBRIC_THREADS",
        "0",
        "CPU threads of the engine; 0: as many as a measurement at start finds worth it.",
        whole(0, 1024),
    ),
    Setting(
        "RUBRIC_ENGINE",
        "",
        "Addresses of the engines that write, between commas: vLLM's, another Rubric's, or a balancer's before many; empty: this machine writes.",
        addresses,
    ),
    Setting("RUBRIC_ENGINE_KEY", "", "Key that these engines are sent.", key, secret=True),
    Setting("RUBRIC_MAX_ROWS", "32", "Samples decoded in one batch at the most.", whole(1, 1024)),
    Setting(
        "RUBRIC_PREFIX_MEMORY",
        "256",
        "MiB for texts that were read already, so that whoever goes on from one need not wait for it; 0: none.",
        whole(0, 1_000_000),
    ),
    Setting("RUBRIC_MAX_WAITING", "64", "Runs that may wait in line before new ones are refused.", whole(1, 100_000)),
    Setting(
        "RUBRIC_MAX_STREAMS", "200", "Streams open at once before new ones are told to come back.", whole(1, 10_000)
    ),
    Setting("RUBRIC_MAX_PROMPT", "100000", "Longest prompt, in UTF-8 bytes.", whole(1, 10_000_000)),
    Setting("RUBRIC_RATE_LIMIT", "60 per minute", "Runs one address may start, in Flask-Limiter's words.", rate),
    Setting(
        "RUBRIC_GRACE",
        "30",
        "Seconds that a run goes on when nobody watches it any more; phones sleep, and tabs are loaded again.",
        whole(1, 10_000_000),
    ),
    Setting(
        "RUBRIC_NICE",
        "15",
        "How much conversions and trainings of the workshop give way to the writing, as `nice` counts; 0: not at all.",
        whole(0, 19),
    ),
    Setting(
        "RUBRIC_KEEP_DAYS",
        "0",
        "Days after which a run is removed, counted from its start, or a sheet, counted from its last change; 0: never.",
        whole(0, 100_000),
    ),
    Setting(
        "RUBRIC_INSTANCE",
        "",
        "Folder for the database and the secret key; empty: `instance/` beside the code, or where Rubric is installed, in the user's data folder.",
        folder,
    ),
    Setting(
        "DATABASE_URL",
        "",
        "SQLAlchemy address of the database; empty: SQLite in the instance folder.",
        database,
        secret=True,
    ),
    Setting(
        "SECRET_KEY",
        "",
        "Key that signs the cookies, the same for all servers that share a database; empty: made once, in the instance folder.",
        secret=True,
    ),
    Setting(
        "RUBRIC_PASSWORD",
        "",
        "Password without which nothing is shown; empty: what `rubric password` has stored, or else everybody may come in.",
        password,
        secret=True,
    ),
    Setting(
        "PUBLIC_URL",
        "",
        "Address that friends can open, such as https://rubric.example or https://example.org/rubric; copied links use it.",
        public_url,
    ),
    Setting("TRUSTED_PROXIES", "0", "Reverse proxies in front whose X-Forwarded headers are believed.", whole(0, 10)),
    Setting("RUBRIC_LOG", "plain", "What a line of the log is: `plain` words, or `json`.", one_of("plain", "json")),
    Setting(
        "RUBRIC_LOG_LEVEL",
        "warning",
        "The least that is logged: `error`, `warning`, or `info`, with a line for each request.",
        one_of("error", "warning", "info"),
    ),
    Setting("HOST", "127.0.0.1", "Address the server listens on; 0.0.0.0 lets friends on the same network in.", host),
    Setting("PORT", "8000", "Port the server listens on.", whole(1, 65535)),
)


def read_settings(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return {name: value} for every setting; raises Refusal naming the variable whose value does not fit."""
    values = {}
    for setting in SETTINGS:
        text = environ.get(setting.name, "").strip() or setting.default
        try:
            values[setting.name] = setting.parse(text)
        except Refusal as error:
            if setting.secret:
                raise Refusal("{name}: {reason}.", setting.name, name=setting.name, reason=error) from None
            raise Refusal(
                "{name} is {text!r}: {reason}.", setting.name, name=setting.name, text=text, reason=error
            ) from None
    return values
