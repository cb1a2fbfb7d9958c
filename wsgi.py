"""The server's entry: `gunicorn wsgi:app`. The engine lives in this process, on a thread of its own: one that computes, or
one that asks those which RUBRIC_ENGINE names."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # the server never asks the network for a model

import generate
from generate import Engine, Refusal, languages, models_folder, read_settings
from webapp import create_app


def engine_of(settings: Mapping, models: Path) -> Engine:
    """The engine that the settings ask for, not started yet. Torch is imported where it computes here, and only there."""
    line = {"max_rows": settings["RUBRIC_MAX_ROWS"], "max_waiting": settings["RUBRIC_MAX_WAITING"]}
    if settings["RUBRIC_ENGINE"]:
        return generate.RemoteEngine(models, settings["RUBRIC_ENGINE"], settings["RUBRIC_ENGINE_KEY"], **line)
    return generate.LocalEngine(
        models,
        device=settings["RUBRIC_DEVICE"],
        precision=settings["RUBRIC_PRECISION"],
        threads=settings["RUBRIC_THREADS"],
        prefix_memory=settings["RUBRIC_PREFIX_MEMORY"],
        **line,
    )


try:
    settings = read_settings()
    models = models_folder(settings)
    if settings["RUBRIC_MODELS"] and not models.is_dir():
        raise Refusal("RUBRIC_MODELS is {path!r}: there is no such folder.", path=str(models))
    engine = engine_of(settings, models)
    app = create_app(settings, engine)
    app.extensions["rubric"].start()
except Refusal as refusal:
    with languages.speaking(languages.asked_for()):
        print(f"rubric: {refusal}", file=sys.stderr)
    sys.exit(4)  # gunicorn's code for an app that cannot be loaded: its master gives up instead of trying again
engine.start(app.extensions["rubric"].models.preferred(settings["RUBRIC_MODEL"]))
