"""The page of a model."""

from flask import Blueprint, abort, render_template

from webapp.state import state
from webapp.views.certificate import find_certificate
from webapp.views.training import find_training

blueprint = Blueprint("model", __name__)


@blueprint.get("/models/<name>")
def model_page(name: str):
    """What is known of a model: where it came from, the certificate of its conversion, how it was trained."""
    model = next((listed for listed in state().models.all() if listed.name == name), None)
    if model is None:
        abort(404, "There is no such model here.")
    folder = model.folder
    certificate, training = (find_certificate(folder), find_training(folder)) if folder else (None, None)
    return render_template("pages/model.html", model=model, certificate=certificate, training=training)
