"""A second Rubric as the engine of a first one, and faults between the two.

It is served in this process, on 127.0.0.1, by a plain threading server; `Between` is what its requests pass on their way.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask_migrate import upgrade
from werkzeug.serving import make_server

from generate import LocalEngine, RemoteEngine, read_settings
from webapp import create_app

WRITES = ("/v1/completions", "/inference/v1/generate")


class Between:
    """WSGI middleware: hands requests on, or does something else with those that write.

    `fault` is given a request's number among them (from 0) and its body, and returns a function that changes the parts of
    the answer, a status to answer with instead, or None. `poses_as` is who is said to own the models.
    """

    def __init__(self, app):
        self._app, self._lock = app, threading.Lock()
        self.fault: Callable = lambda number, body: None
        self.poses_as: str | None = None
        self.bodies: list[dict] = []
        self.key = ""  # the only one that is let in, where there is one
        self.open = 0  # answers that are being sent

    def __call__(self, environ, start_response):
        environ["HTTP_HOST"] = "127.0.0.1"  # a balancer names it otherwise, and a key would be needed
        path = environ["PATH_INFO"]
        if self.key and environ.get("HTTP_AUTHORIZATION") != f"Bearer {self.key}":
            start_response("401 Unauthorized", [])
            return [b""]
        if path == "/v1/models" and self.poses_as:
            return self._posing(self._app(environ, start_response))
        if path not in WRITES:
            return self._app(environ, start_response)
        data = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = Bytes(data)
        body = json.loads(data)
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
        fault = self.fault(number, body)
        if isinstance(fault, int):
            start_response(f"{fault} Fault", [("Content-Type", "application/json")])
            return [b'{"error": {"message": "a fault was asked for"}}']
        return self._counted(self._app(environ, start_response), fault)

    def _posing(self, parts) -> list[bytes]:
        told = b'"owned_by":"rubric"'
        try:  # with blanks, as the answer's length was told already
            return [b"".join(parts).replace(told, f'"owned_by":"{self.poses_as}"'.encode().ljust(len(told)))]
        finally:
            parts.close()

    def _counted(self, parts, fault) -> Iterator[bytes]:
        with self._lock:
            self.open += 1
        try:
            yield from parts if fault is None else fault(parts)
        finally:
            with self._lock:
                self.open -= 1
            if hasattr(parts, "close"):
                parts.close()


class Bytes:
    """The body of a request, once more."""

    def __init__(self, data: bytes):
        self._data = data

    def read(self, size: int = -1) -> bytes:
        size = len(self._data) if size is None or size < 0 else size
        found, self._data = self._data[:size], self._data[size:]
        return found

    readline = read


class Upstream:
    """A Rubric over an engine, at `url`; `between` is before it. It can be stopped and started again on its port."""

    def __init__(self, models, folder, engine):
        settings = read_settings(
            {
                "RUBRIC_MODELS": str(models),
                "RUBRIC_MODEL": "tiny",
                "RUBRIC_INSTANCE": str(folder),
                "RUBRIC_MAX_ROWS": "64",
            }
        )
        self.app = create_app(settings, engine)
        with self.app.app_context():
            upgrade()
        self.engine, self.between, self._port = engine, Between(self.app), 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self.between, threaded=True)
        self._server.daemon_threads = True
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        self._port = self._server.port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def upstream(models, folder, **options) -> Iterator[Upstream]:
    """A second Rubric with an engine of its own, float32 on the CPU."""
    engine = LocalEngine(models, **({"device": "cpu", "precision": "float32", "threads": 1} | options)).start("tiny")
    server = Upstream(models, folder, engine)
    try:
        yield server
    finally:
        server.stop()
        engine.close()


def remote(models, *servers, key="", **line) -> RemoteEngine:
    """An engine that asks these servers."""
    return RemoteEngine(models, [server.url for server in servers], key, **line).start()
