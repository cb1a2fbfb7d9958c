"""The page: Flask, Jinja2 and htmx. Nothing here imports torch; the engine is reached through `generate`'s names."""

import sys
from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from generate import Engine, Refusal, counted, files, read_settings
from webapp.http import (
    answers,
    assets,
    body,
    compression,
    errors,
    languages,
    once,
    operator,
    place,
    private,
    request,
    security,
)
from webapp.http.json_text import Provider
from webapp.http.visitors import secret_key
from webapp.moderation import blocks
from webapp.routes import (
    api,
    api_page,
    api_tokens,
    bring,
    comparison,
    crawlers,
    events,
    exports,
    health,
    home,
    keeping,
    metrics,
    model,
    moderation,
    my_runs,
    replay,
    report,
    run,
    samples,
    sharing,
    sheet,
    sheet_events,
    stored,
    suggestions,
    teach,
    token,
    uploads,
    well,
    workshop,
)
from webapp.routes import operator as operator_page
from webapp.routes import private as private_page
from webapp.runs.tables import connect
from webapp.state import State, state
from webapp.views.model_facts import source_told
from webapp.views.sentences import moment
from webapp.views.tokens import escape, exact, visible


def create_app(settings: dict | None = None, engine: Engine | None = None) -> Flask:
    """Build the app. Without an engine it can migrate the database and show what is stored, but start no run.

    Raises Refusal for settings that do not fit. Without settings it is built from the environment, as `flask --app
    webapp` does; then what is wrong is printed, and that is all.
    """
    if settings is not None:
        return build(settings, engine)
    try:
        return build(read_settings(), engine)
    except Refusal as refusal:
        sys.exit(f"rubric: {refusal}")


def build(settings: dict, engine: Engine | None) -> Flask:
    """The app of these settings; raises Refusal."""
    app = Flask(
        "rubric",
        root_path=str(files.ROOT),
        template_folder=str(files.TEMPLATES),
        static_folder=str(files.STATIC),
        instance_path=str(Path(settings["RUBRIC_INSTANCE"] or files.INSTANCE).resolve()),
    )
    try:
        Path(app.instance_path).mkdir(parents=True, exist_ok=True)
        key = settings["SECRET_KEY"] or secret_key(Path(app.instance_path))
    except OSError as error:
        raise Refusal(
            "RUBRIC_INSTANCE is {path!r}: it cannot be written to ({reason}).",
            path=app.instance_path,
            reason=error.strerror,
        ) from None
    # a line break that counts as one byte comes as %0D%0A; all else is at most tripled
    room = settings["RUBRIC_MAX_PROMPT"] * 6 + 64_000
    app.jinja_options = {"finalize": visible}  # text of people and models stands in titles and sentences too
    app.config.update(
        SETTINGS=settings,
        SECRET_KEY=key,
        SESSION_COOKIE_NAME="rubric",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=settings["PUBLIC_URL"].startswith("https:"),
        SESSION_REFRESH_EACH_REQUEST=False,  # no cookie on files that any cache may keep
        PERMANENT_SESSION_LIFETIME=365 * 24 * 3600,
        MAX_CONTENT_LENGTH=room,
        MAX_FORM_MEMORY_SIZE=room,
        SEND_FILE_MAX_AGE_DEFAULT=assets.YEAR,  # their addresses change with their content
    )
    app.json = Provider(app)
    connect(app)
    app.extensions["rubric"] = State(app, engine)
    answers.register(app, app.extensions["rubric"].answers)
    errors.register(app)
    languages.register(app)  # so that whatever answers knows in which
    private.register(app)  # before all else that looks at a request
    operator.register(app)
    blocks.register(app)
    compression.register(app)
    assets.register(app)
    app.context_processor(request.layout)
    app.context_processor(lambda: {"can": state().models.capabilities})  # templates offer only what the engine can do
    app.add_template_global(lambda: state().disk.notice, "room_notice")
    app.add_template_filter(moment)
    app.add_template_filter(exact)
    app.add_template_filter(visible)
    app.add_template_global(counted)
    app.add_template_global(source_told)
    app.add_template_global(escape, "shown")  # HTML for any text, exactly as it is
    for page in (
        home,
        run,
        model,
        events,
        exports,
        token,
        sharing,
        comparison,
        replay,
        my_runs,
        samples,
        sheet,
        sheet_events,
        suggestions,
        health,
        api,
        api_page,
        api_tokens,
        uploads,
        bring,
        keeping,
        operator_page,
        private_page,
        crawlers,
        report,
        stored,
        moderation,
        workshop,
        teach,
        metrics,
        well,
    ):
        app.register_blueprint(page.blueprint)
    place.register(app)  # after all pages, as it looks at their addresses
    if hops := settings["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)
    security.register(app)  # after all pages, as it looks at their views
    body.register(app)
    once.register(app, app.extensions["rubric"].presses)  # outside the limits: a second press counts for none
    return app
