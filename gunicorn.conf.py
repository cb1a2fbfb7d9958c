"""gunicorn's settings. One worker, because the model and the live runs are in its memory; a thread for each stream."""

import logging
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from gunicorn.workers import gthread

from generate import Refusal, address_on_the_network, files, gettext, languages, read_settings
from webapp.http.operator import link_for
from webapp.watch import logs

PATIENCE = 30  # seconds a client may take to send the next bytes of a request, or to take the next of an answer


def terminal() -> AbstractContextManager:
    """While this lasts, what is printed is told in the terminal's language; the log stays English."""
    return languages.speaking(languages.asked_for())


try:
    settings = read_settings()
except Refusal as refusal:
    with terminal():
        sys.exit(f"rubric: {refusal}")
bind = (
    f"[{settings['HOST']}]:{settings['PORT']}" if ":" in settings["HOST"] else f"{settings['HOST']}:{settings['PORT']}"
)
wsgi_app = "wsgi:app"
worker_class = "gthread"
workers = 1
API = 64  # requests that webapp/api/guard.py lets be answered at once
threads = settings["RUBRIC_MAX_STREAMS"] + API + 56  # pages always find a thread, however many watch or ask
graceful_timeout = 5
timeout = 120  # loading a large model blocks no thread of the web, but a slow disk may
control_socket_disable = True
chdir = str(files.ROOT)
limit_request_line = 8190  # a link may carry a prompt
logconfig_dict = logs.config(settings["RUBRIC_LOG"], settings["RUBRIC_LOG_LEVEL"])


class Connection(gthread.TConn):
    """A connection that cannot hold up others.

    gunicorn 27 waits for a slow request without end, and lingers up to two seconds in its only accepting thread when it
    closes a connection whose other end stays open: one such client a second would keep everybody else out.
    """

    lingering = ThreadPoolExecutor(8, thread_name_prefix="close")

    def init(self):
        """Set up the connection, with a bound on each wait for its client."""
        super().init()
        self.sock.settimeout(PATIENCE)

    def close(self, graceful=False):
        """Close it; lingering for its other end goes on in a thread of its own."""
        if graceful:
            self.lingering.submit(super().close, True)
        else:
            super().close()


gthread.TConn = Connection


def is_no_timeout(record: logging.LogRecord) -> bool:
    """A filter of the log: False for a client that was too slow."""
    return not (record.exc_info and isinstance(record.exc_info[1], TimeoutError))


def say_where():
    """Print the address of the page, and the one that friends can open if HOST lets them in."""
    host, port = settings["HOST"], settings["PORT"]
    here = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    with terminal():
        lines = [gettext("Rubric is at {address}", address=here)]
        if host in ("0.0.0.0", "::"):
            address = f"http://{address_on_the_network() or socket.gethostname()}:{port}"
            lines.append(gettext("Friends on the same network: {address}", address=address))
        print("", *lines, gettext("Ctrl-C stops it."), sep="\n  ", end="\n\n", flush=True)


def say_who(app):
    """Print the operator's link, until somebody has opened one."""
    keys = app.extensions["operator"]
    if not keys.has_operator():
        with terminal():
            told = gettext("To bring and teach models, open this; it works once, within a day:")
        print(f"  {told}\n  {link_for(keys.new_link_key(), settings)}\n", flush=True)


def post_worker_init(worker):
    """The app is loaded: say so, and let streams see SIGTERM at once, so that they end well instead of being cut."""
    begin = threading.Event()
    for _ in range(threads):  # made now: started under load, each thread would delay every connection not yet accepted
        worker.tpool.submit(begin.wait)
    begin.set()
    say_where()
    say_who(worker.wsgi)
    logging.getLogger("gunicorn.error").addFilter(is_no_timeout)  # a client that gave up is no error of ours
    worker.wsgi.extensions["rubric"].scheduler.alive = lambda: worker.alive


def worker_exit(server, worker):
    """Save what was written."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["rubric"].close()
