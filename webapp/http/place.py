"""Where the site stands: at the top of its host, or under the path that PUBLIC_URL names."""

from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Flask, request

from generate import Refusal


def register(app: Flask) -> None:
    """Serve the app under its path, with links that begin with it; raises Refusal for a path that is an address of ours."""
    path = urlsplit(app.config["SETTINGS"]["PUBLIC_URL"]).path
    ours = {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()}
    if path and path.split("/")[1] in ours:
        raise Refusal("PUBLIC_URL ends in {path}, which is an address of Rubric's own; choose another.", path=path)
    app.config["SESSION_COOKIE_PATH"] = path or "/"
    app.wsgi_app = under(app.wsgi_app, path)
    app.add_template_global(to)


def under(wsgi_app: Callable, path: str) -> Callable:
    """The same app under a path, which a proxy may have taken off or not. The scheme comes in lower case."""

    def mounted(environ: dict, start_response: Callable):
        environ["wsgi.url_scheme"] = environ["wsgi.url_scheme"].lower()  # a proxy told it
        asked = environ.get("PATH_INFO", "")
        if path:
            environ["SCRIPT_NAME"] = path
            if asked == path or asked.startswith(f"{path}/"):
                environ["PATH_INFO"] = asked.removeprefix(path) or "/"
        return wsgi_app(environ, start_response)

    return mounted


def to(address: str) -> str:
    """A link to one of our addresses, which begin with a slash."""
    return request.script_root + address
