"""The JSON body of a request of the API."""

from flask import request

from webapp.api.errors import Wrong


def json_body() -> dict:
    """The request's JSON object, whatever type it is said to have; raises Wrong."""
    try:
        found = request.get_json(force=True, silent=True)
    except RecursionError:  # thousands of lists within each other
        found = None
    if not isinstance(found, dict):
        raise Wrong("The body must be a JSON object.")
    return found
