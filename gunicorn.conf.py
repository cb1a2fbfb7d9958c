"""gunicorn's settings. One worker, because the model and the live runs are in its memory; a thread for each stream."""

import os
import socket

from generate import read_settings

settings = read_settings()
bind = (
    f"[{settings['HOST']}]:{settings['PORT']}" if ":" in settings["HOST"] else f"{settings['HOST']}:{settings['PORT']}"
)
wsgi_app = "wsgi:app"
worker_class = "gthread"
workers = 1
threads = settings["RUBRIC_MAX_STREAMS"] + 56  # pages always find a thread, however many watch
graceful_timeout = 5
timeout = 120  # loading a large model blocks no thread of the web, but a slow disk may
control_socket_disable = True
chdir = os.path.dirname(os.path.abspath(__file__))
limit_request_line = 8190  # a link may carry a prompt
loglevel = "warning"


def say_where():
    host, port = settings["HOST"], settings["PORT"]
    print(f"\n  Rubric is at http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}", flush=True)
    if host in ("0.0.0.0", "::"):
        print(f"  Friends on the same network: http://{address_on_the_network()}:{port}", flush=True)
    print("  Ctrl-C stops it.\n", flush=True)


def address_on_the_network() -> str:
    """This machine's address as its neighbours see it. A datagram socket finds the way out without sending a thing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation (RFC 5737)
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


def post_worker_init(worker):
    """The app is loaded: say so, and let streams see SIGTERM at once, so that they end well instead of being cut."""
    say_where()
    worker.wsgi.extensions["rubric"].alive = lambda: worker.alive


def worker_exit(server, worker):
    """Save what was written."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["rubric"].close()
