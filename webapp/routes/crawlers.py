"""What search engines may read: the first page, and of a private server nothing."""

from flask import Blueprint, Response

from webapp.http.place import to
from webapp.http.private import is_private

blueprint = Blueprint("crawlers", __name__)

PREVIEWS = ("Twitterbot", "facebookexternalhit", "LinkedInBot", "Slackbot-LinkExpanding", "Discordbot", "TelegramBot")


@blueprint.get("/robots.txt")
def robots():
    """Links are for those who were given them. Chats that draw a preview of one may fetch it: somebody put it there."""
    if is_private():
        lines = ["User-agent: *", "Disallow: /"]
    else:
        lines = [f"User-agent: {name}" for name in PREVIEWS]
        lines += [f"Allow: {to('/')}", ""]
        lines += ["User-agent: *", f"Allow: {to('/')}$", f"Allow: {to('/static/')}", f"Disallow: {to('/')}"]
    return Response("\n".join(lines) + "\n", mimetype="text/plain")
