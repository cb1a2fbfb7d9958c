"""The one page of a private server that everybody sees: it asks for the password."""

from flask import Blueprint, make_response, redirect, render_template, request

from generate import N_
from webapp.http.place import to
from webapp.http.private import is_inside, is_right, let_in
from webapp.http.security import limited_to

blueprint = Blueprint("private", __name__)

TRIES = "10 per minute; 100 per day"
MANY_TRIES = N_("The password was tried many times from this network address; please wait a while.")


@blueprint.get("/login")
def ask():
    """The form; whoever has given the password is led on."""
    where = wanted(request.args.get("to", ""))
    return redirect(to(where), 303) if is_inside() else render_template("pages/login.html", where=where, wrong=False)


@blueprint.post("/login")
@limited_to(TRIES, MANY_TRIES)
def enter():
    """Try a password."""
    where = wanted(request.form.get("to", ""))
    if is_right(request.form.get("password", "")):
        let_in()
        return redirect(to(where), 303)
    return make_response(render_template("pages/login.html", where=where, wrong=True), 401)


def wanted(address: str) -> str:
    """The address of ours that somebody wanted to open; the first page for what might be another site's."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours and "\\" not in address else "/"
