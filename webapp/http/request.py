"""What a request asks for, and the addresses that answers name."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import current_app, redirect, request, url_for
from werkzeug.wrappers import Response

from generate import Refusal


class BadRequest(Refusal):
    """An address or a header that none of our pages makes. `status` is what HTTP calls it."""

    status = 400


def is_fragment() -> bool:
    """Whether htmx asked, and will swap a part of the answer into the page that is there."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def settings() -> dict:
    """The settings that the server was started with."""
    return current_app.config["SETTINGS"]


def link_to(run_id: str) -> dict:
    """The address of a run to share, and whether it works on this computer alone."""
    return shared("run.run_page", run_id=run_id)


def link_to_sheet(sheet_id: str) -> dict:
    """The same of a sheet."""
    return shared("home.sheet", sheet_id=sheet_id)


def home_link() -> dict:
    """The same of the form."""
    return shared("home.home")


def shared(endpoint: str, **values: str) -> dict:
    """The address of a page for friends, and whether it works on this computer alone."""
    public, path = settings()["PUBLIC_URL"], url_for(endpoint, **values)
    url = public + path.removeprefix(request.script_root) if public else url_for(endpoint, **values, _external=True)
    host = urlsplit(url).hostname or ""
    local = host in ("", "localhost", "0.0.0.0", "::1", "::") or host.startswith("127.")
    return {"url": url, "local": local}


def layout() -> dict:
    """For templates: `layout` is the whole page, or for htmx only its middle."""
    return {"layout": "layout/fragment.html" if is_fragment() else "layout/page.html"}


def whole_in(text: str) -> int | None:
    """The whole number of at most eight digits that a text is; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def whole_number(field: str, most: int | None = None, given: Mapping[str, str] | None = None) -> int:
    """A field that must be a whole number, up to `most` or of eight digits, of the form or of what else is `given`; raises
    Refusal if it is not."""
    text = (request.form if given is None else given).get(field, "")
    number = whole_in(text)
    if most is not None and (number is None or number > most):
        raise Refusal(
            "{name} must be a whole number from 0 to {most}, not {text!r}.",
            field,
            name=field,
            most=most,
            text=text[:40],
        )
    if number is None:
        raise Refusal("{name} must be a whole number, not {text!r}.", field, name=field, text=text[:40])
    return number


def to_run(run_id: str) -> Response:
    """Send the visitor to a run's page."""
    return redirect(url_for("run.run_page", run_id=run_id), 303)


def to_job(job_id: str) -> Response:
    """Send the operator to a job's page."""
    return redirect(url_for("workshop.job", job_id=job_id), 303)
