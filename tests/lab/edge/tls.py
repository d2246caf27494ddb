"""TLS to backends: Varnish speaks plain HTTP to a socket here, and TLS goes on from it to the origin.

One forwarder per backend, as its certificate checks are its own. A connection that cannot be had safely is closed,
and Varnish then answers as for a backend that is down.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import selectors
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_FIELDS = ("ssl_check_cert", "ssl_cert_hostname", "ssl_sni_hostname", "ssl_hostname", "ssl_ca_cert",
           "ssl_client_cert", "ssl_client_key", "ssl_ciphers")  # fmt: skip


class Forwarders:
    """The sockets of all TLS backends, below one short directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def socket(self, backend: dict[str, Any], address: str) -> str:
        """The path of the socket that leads to a backend at an address; listening when this returns."""
        told = {field: backend.get(field) for field in _FIELDS}
        told |= {"address": address, "name": backend["address"], "port": backend["port"]}
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
        with self._lock:
            if key not in self._known:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Varnish's workers may run as another user.
                self.directory.chmod(0o711)
                path = self.directory / key
                context = _context(told, self.directory / f"{key}.pem")
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(path))
                path.chmod(0o666)
                listener.listen(64)
                self._known[key] = str(path)
                serve = threading.Thread(target=_serve, args=(listener, told, context), daemon=True)
                serve.start()
            return self._known[key]


def _context(told: dict[str, Any], pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=told["ssl_ca_cert"] or None)
    # The name is checked by hand, for it may be another than the one that is asked for.
    context.check_hostname = False
    if not told["ssl_check_cert"]:
        context.verify_mode = ssl.CERT_NONE
    if told["ssl_ciphers"]:
        context.set_ciphers(told["ssl_ciphers"])
    if told["ssl_client_cert"] and told["ssl_client_key"]:
        pem.touch(mode=0o600)
        pem.write_text(f"{told['ssl_client_key']}\n{told['ssl_client_cert']}\n")
        context.load_cert_chain(pem)
    return context


def _serve(listener: socket.socket, told: dict[str, Any], context: ssl.SSLContext) -> None:
    while True:
        near, _ = listener.accept()
        threading.Thread(target=_join, args=(near, told, context), daemon=True).start()


def _join(near: socket.socket, told: dict[str, Any], context: ssl.SSLContext) -> None:
    with near, contextlib.suppress(OSError):
        try:
            plain = socket.create_connection((told["address"], told["port"]), timeout=10)
            names = told["ssl_sni_hostname"] or told["ssl_cert_hostname"] or told["ssl_hostname"]
            far = context.wrap_socket(plain, server_hostname=names or told["name"])
            with far:
                if told["ssl_check_cert"]:
                    expected = told["ssl_cert_hostname"] or told["ssl_hostname"] or told["name"]
                    _check(far, expected)
                far.settimeout(None)
                _pump(near, far)
        except OSError as error:
            log.warning("TLS to %s:%s: %s", told["address"], told["port"], error)


def _check(far: ssl.SSLSocket, expected: str) -> None:
    certificate = far.getpeercert() or {}
    names = [str(entry[1]).lower() for entry in certificate.get("subjectAltName", ())]
    wanted = expected.lower()
    parent = "*." + wanted.partition(".")[2]
    if wanted not in names and parent not in names:
        raise ssl.SSLCertVerificationError(f"the certificate is for {names}, not for {wanted}")


def _pump(near: socket.socket, far: ssl.SSLSocket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = _ready(source) if source is far else source.recv(65536)
                if data == b"":
                    return
                if data is not None:
                    key.data.sendall(data)


def _ready(far: ssl.SSLSocket) -> bytes | None:
    """What has come over TLS: nothing at its end, None for a record that bears no data.

    A server of TLS 1.3 sends its session's tickets unasked. The selector wakes for them, and whoever
    then waits for data waits for an answer to a request that it does not pass on.
    """
    far.settimeout(0)
    try:
        data = far.recv(65536)
        # What TLS has read ahead no selector sees.
        while far.pending():
            data += far.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        far.settimeout(None)
    return data
