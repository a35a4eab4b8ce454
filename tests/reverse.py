"""Debian's nginx on loopback, in front of servers as an Ingress is: routes by path for one host, TLS, limits."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distribution import free_port

PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    client_max_body_size {body_limit};
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_read_timeout 3600;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto {forwarded};
    {upgraded}
    {servers}
}}
"""


class Found(NamedTuple):
    """Where it listens: ``url`` is the https one, where there is one. Any other host name gets a 404."""

    url: str
    host: str
    http_port: int
    https_port: int
    log: Path


@contextlib.contextmanager
def nginx(
    folder: Path,
    routes: Mapping[str, str],
    *,
    tls: Any = None,
    redirect: bool = False,
    body_limit: str = "0",
    forwarded: bool = True,
    upgrade: str = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;",
) -> Iterator[Found]:
    """Route each path, and what is below it, to a ``host:port``.

    Args:
        folder: For its configuration, log and temporary files.
        routes: Path to ``host:port``.
        tls: trustme's certificate for 127.0.0.1, to speak https as well.
        redirect: Whether http leads to https.
        body_limit: Bytes of a request's body, as nginx writes them (``1m``); 0 is no limit.
        forwarded: Whether the servers behind it are told that https was spoken.
        upgrade: Lines that pass WebSockets on, or "".
    """
    assert PROGRAM is not None
    folder.mkdir(parents=True, exist_ok=True)
    plain, secure = free_port(), free_port() if tls else 0
    places = "".join(
        f"location = {path} {{ proxy_pass http://{server}; }} location {path}/ {{ proxy_pass http://{server}; }}\n"
        for path, server in routes.items()
    )
    servers = f"server {{ listen 127.0.0.1:{plain} default_server; }}\n"
    led = f"return 308 https://$host:{secure}$request_uri;" if redirect else places
    servers += f"server {{ listen 127.0.0.1:{plain}; server_name 127.0.0.1; {led} }}\n"
    if tls:
        tls.private_key_pem.write_to_path(folder / "key.pem")
        tls.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
        certificate = f"ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;"
        servers += f"server {{ listen 127.0.0.1:{secure} ssl; server_name 127.0.0.1; {certificate} {places} }}\n"
    config = folder / "nginx.conf"
    written = _CONFIG.format(
        upgraded=upgrade,
        folder=folder,
        body_limit=body_limit,
        forwarded="$scheme" if forwarded else "http",
        servers=servers,
    )
    config.write_text(written, encoding="utf-8")
    log = folder / "error.log"
    process = subprocess.Popen([PROGRAM, "-c", config, "-p", folder, "-e", log], stderr=subprocess.DEVNULL)
    try:
        _wait(process, plain, log)
        url = f"https://127.0.0.1:{secure}" if tls else f"http://127.0.0.1:{plain}"
        yield Found(url, url.partition("://")[2], plain, secure, folder / "access.log")
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nginx did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
