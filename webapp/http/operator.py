"""Who may bring, teach and remove models: whoever opened a link that works once, and has had a cookie since.

Keys are random; what is kept of them is the name of an empty file in `instance/operator/`, made of the key's sha256. To
take a link is to remove its file, so of two who open it at the same moment one gets in. For everybody else no address of
the workshop is there, whatever they send to it.
"""

import hashlib
import re
import secrets
import time
from pathlib import Path

from flask import Flask, abort, current_app, request
from werkzeug.wrappers import Response

from webapp.http.at_home import at_home
from webapp.http.cookies import keep
from webapp.http.request import settings

COOKIE = "rubric_operator"
STAYS = 365 * 24 * 3600  # seconds that a cookie is good for
LINK_STAYS = 24 * 3600  # seconds that a link is
OURS = re.compile(r"/+(workshop|operator)(/|$)")  # every address that the operator alone may use


class Keys:
    """The operator's keys of one server, in the folder `instance`; several servers may share it."""

    def __init__(self, instance: Path):
        self._folder = instance / "operator"

    def new_link_key(self) -> str:
        """A key for one link; those of earlier links that nobody opened are good no longer. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for old in self._folder.glob("link-*"):
            old.unlink(missing_ok=True)
        key = secrets.token_urlsafe(32)
        self._file("link", key).touch(0o600)
        return key

    def exchange(self, key: str) -> str | None:
        """The secret of a new cookie for the key of a link, which is used up by that; None for other words and old links."""
        file = self._file("link", key)
        try:
            is_good = time.time() - file.stat().st_mtime < LINK_STAYS
            file.unlink()
        except FileNotFoundError:
            return None
        if not is_good:
            return None
        secret = secrets.token_urlsafe(32)
        self._file("cookie", secret).touch(0o600)
        return secret

    def knows(self, secret: str | None) -> bool:
        """Whether a cookie's secret is good."""
        try:
            return bool(secret) and time.time() - self._file("cookie", secret).stat().st_mtime < STAYS
        except OSError:  # it is not there, or cannot be looked at
            return False

    def forget(self, secret: str) -> None:
        """Let a cookie be good no longer."""
        self._file("cookie", secret).unlink(missing_ok=True)

    def has_operator(self) -> bool:
        """Whether anybody opened a link yet."""
        return any(self._folder.glob("cookie-*"))

    def _file(self, kind: str, word: str) -> Path:
        return self._folder / f"{kind}-{hashlib.sha256(word.encode('utf-8', 'replace')).hexdigest()}"


def register(app: Flask) -> None:
    """Guard the workshop; call before anything that reads what a request brings."""
    app.extensions["operator"] = Keys(Path(app.instance_path))
    app.before_request(hide_from_strangers)
    app.add_template_global(is_operator)
    app.add_template_global(runs_it)


def keys() -> Keys:
    """Those of this app."""
    return current_app.extensions["operator"]


def is_operator() -> bool:
    """Whether the operator asks; for templates too."""
    return keys().knows(request.cookies.get(COOKIE))


def runs_it() -> bool:
    """Whether whoever asks runs the server, by the machine or the cookie: paths and what is wrong with a folder are told them."""
    return at_home() or is_operator()


def hide_from_strangers() -> None:
    """404 for whoever is not the operator: by the address alone, so that no method and no redirection tells of it."""
    opens_a_link = request.endpoint == "operator.enter" and request.method == "GET"
    if OURS.match(request.path) and not opens_a_link and not is_operator():
        abort(404)


def remember(answer: Response, secret: str) -> Response:
    """The same answer, with the cookie: no other site's page can make a browser send it, and no script can read it."""
    keep(answer, COOKIE, secret, STAYS, samesite="Strict")
    return answer


def leave(answer: Response) -> Response:
    """The same answer, which takes the cookie back; it is good no longer, wherever it was copied to."""
    keys().forget(request.cookies.get(COOKIE, ""))
    answer.delete_cookie(COOKIE, path=current_app.config["SESSION_COOKIE_PATH"])
    return answer


def link_for(key: str, given: dict | None = None) -> str:
    """The address that is opened with a key, at the server of these settings, or of this app's."""
    given = given or settings()
    host = given["HOST"] if given["HOST"] not in ("0.0.0.0", "::") else "127.0.0.1"
    here = f"http://[{host}]:{given['PORT']}" if ":" in host else f"http://{host}:{given['PORT']}"
    return f"{given['PUBLIC_URL'] or here}/operator?key={key}"
