"""The workshop's first page, for the operator alone (`http/operator.py`)."""

from flask import Blueprint, render_template

blueprint = Blueprint("workshop", __name__, url_prefix="/workshop")


@blueprint.get("")
def jobs():
    """What is being done, and what can be."""
    return render_template("pages/workshop.html")
