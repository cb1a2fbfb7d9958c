"""The server's entry: `gunicorn wsgi:app`. The engine lives in this process, on a thread of its own."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # the server never asks the network for a model

from generate import LocalEngine, Refusal, models_folder, read_settings
from webapp import create_app

try:
    settings = read_settings()
    models = models_folder(settings)
    if settings["RUBRIC_MODELS"] and not models.is_dir():
        raise Refusal("RUBRIC_MODELS is {path!r}: there is no such folder.", path=str(models))
    engine = LocalEngine(
        models,
        device=settings["RUBRIC_DEVICE"],
        precision=settings["RUBRIC_PRECISION"],
        threads=settings["RUBRIC_THREADS"],
        max_rows=settings["RUBRIC_MAX_ROWS"],
        max_waiting=settings["RUBRIC_MAX_WAITING"],
        prefix_memory=settings["RUBRIC_PREFIX_MEMORY"],
    )
    app = create_app(settings, engine)
    app.extensions["rubric"].start()
except Refusal as refusal:
    print(f"rubric: {refusal}", file=sys.stderr)
    sys.exit(4)  # gunicorn's code for an app that cannot be loaded: its master gives up instead of trying again
engine.start(settings["RUBRIC_MODEL"])
