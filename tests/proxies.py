"""nginx and Caddy as Debian has them and as people set them up: nothing but the address to pass requests on to.

Under /rubric/ the one with TLS takes the path off, and the other passes it on as it is.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import until_up

NGINX = """
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        listen 127.0.0.1:{plain};
        location / {{
            proxy_pass http://127.0.0.1:{app};
        }}
    }}
    server {{
        listen 127.0.0.1:{tls} ssl http2;
        ssl_certificate {folder}/certificate;
        ssl_certificate_key {folder}/key;
        location /rubric/ {{
            proxy_pass http://127.0.0.1:{app}/;
        }}
        location / {{
            proxy_pass http://127.0.0.1:{app};
        }}
    }}
}}
"""
CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}/storage
    default_bind 127.0.0.1
}}
http://127.0.0.1:{plain} {{
    reverse_proxy 127.0.0.1:{app}
}}
https://127.0.0.1:{tls} {{
    tls {folder}/certificate {folder}/key
    handle_path /rubric/* {{
        reverse_proxy 127.0.0.1:{app}
    }}
    handle {{
        reverse_proxy 127.0.0.1:{app}
    }}
}}
"""
SETTINGS = {"nginx": NGINX, "caddy": CADDY}


def proxy_path(kind: str) -> str | None:
    return shutil.which(kind, path=os.environ["PATH"] + ":/usr/sbin")


def certify(folder: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", *key, *name, "-out", folder / "certificate"]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def proxy(kind: str, folder: Path, app: int, plain: int, tls: int, settings: str | None = None) -> Iterator[None]:
    """Passes on to the port `app` what comes to the ports `plain` (HTTP/1.1) and `tls` (HTTP/2).

    `settings` are its own words, in which {app}, {plain}, {tls}, {folder} and {user} stand for what they are.
    """
    certify(folder)
    user = "user root;" if os.geteuid() == 0 else ""  # who else could not enter the test's folder
    file, log = folder / "settings", folder / "error.log"
    settings = settings or SETTINGS[kind]
    file.write_text(settings.format(user=user, folder=folder, app=app, plain=plain, tls=tls))
    arguments = {
        "nginx": ["-e", log, "-c", file],
        "caddy": ["run", "--config", file, "--adapter", "caddyfile"],
    }[kind]
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("ab") as output:
        process = subprocess.Popen([proxy_path(kind), *arguments], env=environment, stdout=output, stderr=output)
    try:
        for port in (plain, tls):
            wait_until_open(port, process, log)
        yield
    finally:
        process.terminate()  # nginx ends its workers with itself, and what they stream
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_open(port: int, process: subprocess.Popen, log: Path) -> None:
    def is_open() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until_up(process, is_open, log)
