"""Owns a small site that stands twice, over TLS: the old side and the new one, which a test may make to differ."""

from __future__ import annotations

import http.server
import itertools
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

SIDES = {"old": "127.0.0.43", "new": "127.0.0.44"}
HOSTS = ["docs.example.org", "www.example.org"]

Answer = tuple[int, dict[str, str], str]


class TwoSides:
    """Two web servers with one certificate authority; `pages` says what each answers."""

    def __init__(self, folder: Path, days: dict[str, int] | None = None) -> None:
        self.ca = folder / "ca.pem"
        self.asked: list[tuple[str, str, str]] = []
        # By which names the servers were asked to show themselves.
        self.named: set[str | None] = set()
        # The sides whose certificate another authority signed.
        self.resigned: set[str] = set()
        self.posted: list[str] = []
        # By side and path; what is not here is the plain page.
        self.pages: dict[tuple[str, str], Answer | Callable[[], Answer]] = {}
        self.saves = False
        self._counter = itertools.count()
        _authority(folder)
        self._servers: list[http.server.ThreadingHTTPServer] = []
        # One port for both, for it is the service's.
        self.port = 0
        for side in SIDES:
            _certificate(folder, side, (days or {}).get(side, 90))
            _certificate(folder, f"{side}-resigned", 90, signed_by="other")
            self._serve(side, folder)

    def __enter__(self) -> TwoSides:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def page(self, side: str, path: str) -> Answer:
        """Returns what a side answers; each answer has a token of its own, as pages of wikis have."""
        number = next(self._counter)
        plain = (
            f"<html><body><h1>{path}</h1>\n<p>Some text to read.</p>\n"
            f'<input name="token" value="{number:08x}f">\n<!-- served in {number} ms -->\n</body></html>'
        )
        headers = {"Content-Type": "text/html", "X-Request": f"r{number}"}
        headers["Set-Cookie"] = f"session={number}; Path=/; HttpOnly"
        found = self.pages.get((side, path))
        if found is None:
            return 200, headers, plain
        status, more, body = found() if callable(found) else found
        return status, headers | more, body or plain

    def _serve(self, side: str, folder: Path) -> None:
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((side, self.headers["Host"], self.path))
                self._answer(site.page(side, self.path))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = self.rfile.read(length).decode()
                site.posted.append(f"{side} {self.path} {form}")
                self._answer((200, {}, "saved" if site.saves else "error: readonly"))

            def _answer(self, answer: Answer) -> None:
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer((SIDES[side], self.port), Handler)
        self.port = server.server_port
        context, resigned = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
        context.load_cert_chain(folder / f"{side}.pem", folder / f"{side}.key")
        name = f"{side}-resigned"
        resigned.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")

        def shown(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            site.named.add(name)
            if side in site.resigned:
                connection.context = resigned

        context.sni_callback = shown
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)

    def pillar(self, **compare: Any) -> dict[str, Any]:
        """Returns the keys that a comparison needs, with the node `app1` on both sides."""
        return {
            "vhosts": {
                "docs": {"hosts": HOSTS[:1], "node": "app1", "port": self.port, "path": "/wiki/Main",
                         "ca": str(self.ca)}
            },
            "compare": {"paths": {"docs": ["/wiki/A", "/wiki/B"]}} | compare,
        }  # fmt: skip


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _authority(folder: Path) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", "-x509", *key, "-keyout", folder / "ca.key", "-out", folder / "ca.pem",
             "-days", "90", "-subj", "/CN=the lab's authority")  # fmt: skip
    # Whom it trusts is trusted as well.
    extensions = folder / "authority"
    extensions.write_text("basicConstraints=critical,CA:true\n")
    request = folder / "other.csr"
    _openssl("req", *key, "-keyout", folder / "other.key", "-out", request, "-subj", "/CN=another")
    _openssl("x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
             "-CAcreateserial", "-days", "90", "-extfile", extensions,
             "-out", folder / "other.pem")  # fmt: skip


def _certificate(folder: Path, side: str, days: int, signed_by: str = "ca") -> None:
    names = ",".join(f"DNS:{name}" for name in HOSTS)
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:false\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    request = folder / f"{side}.csr"
    _openssl("req", *key, "-keyout", folder / f"{side}.key", "-out", request, "-subj", "/CN=site")
    certificate, authority = folder / f"{side}.pem", folder / f"{signed_by}.pem"
    _openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", folder / f"{signed_by}.key",
             "-CAcreateserial", "-days", days, "-extfile", extensions,
             "-out", certificate)  # fmt: skip
    # The whole chain, as servers show it.
    certificate.write_text(certificate.read_text() + authority.read_text())
