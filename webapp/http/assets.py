"""Files that npm brought (htmx and the two typefaces) or made (the scripts of sheet and uploads), and ours, with addresses that change with their content."""

import json

from flask import Flask, abort, send_from_directory, url_for

from generate import Refusal, files

PACKAGES = {
    "htmx": "htmx.org/dist",
    "serif": "@fontsource-variable/source-serif-4",
    "sans": "@fontsource-variable/inter",
}
MADE = ("sheet.min.js", "uploads.min.js")
YEAR = 365 * 24 * 3600


def register(app: Flask) -> None:
    """Serve the files, and give templates their addresses; raises Refusal where what npm brings or makes is missing."""
    if not (files.NODE_MODULES / PACKAGES["htmx"] / "htmx.min.js").exists():
        raise Refusal(
            "The page's files are not in {path}; run `npm ci` once (make run does it).", path=files.NODE_MODULES
        )
    if not all((files.STATIC / name).exists() for name in MADE):
        raise Refusal(
            "The page's scripts are not all in {path}; run `npm run build` once (make run does it).", path=files.STATIC
        )
    wanted = json.loads(files.PACKAGE_JSON.read_text())["dependencies"]
    version = "-".join(wanted.values())

    @app.get("/static/npm/<package>/<path:file>")
    def npm(package: str, file: str):
        """A file of one of npm's packages."""
        if package not in PACKAGES:
            abort(404)
        return send_from_directory(files.NODE_MODULES / PACKAGES[package], file, max_age=YEAR)

    @app.get("/favicon.ico")
    def favicon():
        """The site's small picture, where browsers look for it."""
        return send_from_directory(files.STATIC, "favicon.svg", max_age=24 * 3600)

    @app.template_global()
    def npm_url(package: str, file: str) -> str:
        """The address of a file of npm's; it changes when package.json asks for other versions."""
        return url_for("npm", package=package, file=file, v=version)

    @app.template_global()
    def static_url(file: str) -> str:
        """The address of a file of ours; it changes when the file does."""
        return url_for("static", filename=file, v=int((files.STATIC / file).stat().st_mtime))
