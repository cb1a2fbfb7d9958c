"""Cookies of ours beside the session's, which go where that goes."""

from typing import Literal

from flask import Response, current_app


def keep(answer: Response, name: str, value: str, seconds: int, samesite: Literal["Lax", "Strict"]) -> None:
    """Let a browser keep a value, which no script can read."""
    config = current_app.config
    answer.set_cookie(
        name,
        value,
        max_age=seconds,
        path=config["SESSION_COOKIE_PATH"],
        secure=config["SESSION_COOKIE_SECURE"],
        httponly=True,
        samesite=samesite,
    )
