"""What this server keeps of those who come, for how long, and who sees it."""

from flask import Blueprint, render_template

from webapp.http.request import settings
from webapp.http.visitors import visitor
from webapp.moderation import blocks, reports
from webapp.runs import presses
from webapp.sheets import suggestions

blueprint = Blueprint("stored", __name__)


@blueprint.get("/stored")
def stored():
    """The figures are those that the server goes by."""
    given = settings()
    return render_template(
        "pages/stored.html",
        keep_days=given["RUBRIC_KEEP_DAYS"],
        address_days=blocks.KEPT.days,
        report_days=reports.KEPT.days,
        press_hours=round(presses.KEPT / 3600),
        suggestion_minutes=round(suggestions.KEPT / 60),
        rate=given["RUBRIC_RATE_LIMIT"],
        elsewhere=bool(given["RUBRIC_ENGINE"]),
        has_cookie=visitor() is not None,
    )
