"""What testers would see through their hosts file: real requests, to a real server with names of its own."""

from __future__ import annotations

import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saltext.migrate import _native
from tests.lab.salt import COMMANDS

ADDRESS = "127.0.0.41"


class Site(http.server.BaseHTTPRequestHandler):
    """Answers by Host header, as a web server with virtual hosts."""

    asked: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        host = self.headers["Host"]
        server_name = getattr(self.connection, "sent_name", "")
        self.asked.append((host, server_name))
        location = {
            ("docs.example.org", "/"): "/wiki/Main_Page",
            ("old.example.org", "/"): "https://docs.example.org/wiki/Main_Page",
            ("www-test.example.org", "/"): "https://www.example.org/",
        }.get((host, self.path))
        self.send_response(302 if location else 404 if host == "gone.example.org" else 200)
        if location:
            self.send_header("Location", location)
        body = f"this is {host} on the new side".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    names = ",".join(f"DNS:{n}.example.org" for n in ("docs", "old", "www-test", "gone", "other"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-keyout", folder / "key.pem", "-out", folder / "ca.pem", "-days", "2"]
        + ["-subj", "/CN=test", "-addext", f"subjectAltName={names}"]
        + ["-addext", "basicConstraints=critical,CA:false"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")

    def remember(connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        connection.sent_name = name

    context.sni_callback = remember
    httpd = http.server.ThreadingHTTPServer((ADDRESS, 0), Site)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield httpd.server_port, folder / "ca.pem"
    httpd.shutdown()
    httpd.server_close()


def pillar(port: int, ca: Path, **vhosts: dict[str, Any]) -> dict[str, Any]:
    common = {"node": "app1", "port": port, "ca": str(ca)}
    return {
        "nodes": {
            "old": {"app1": {"private": "10.4.0.1"}},
            "new": {"app1": {"private": "10.0.0.1", "public": ADDRESS}},
        },
        "vhosts": {name: common | vhost for name, vhost in vhosts.items()},
    }


def run(command: str, settings: dict[str, Any]) -> Any:
    answer = _native.run(
        command, json.dumps(settings), "{}", lambda q: "null", lambda e: None, lambda: False
    )
    return json.loads(answer)


def test_the_lines_of_a_hosts_file(server: tuple[int, Path]) -> None:
    settings = pillar(*server, docs={"hosts": ["docs.example.org", "docs2.example.org"]})
    assert run("site.hosts", settings) == {"docs": f"{ADDRESS} docs.example.org docs2.example.org"}


def test_each_vhost_is_asked_by_its_own_name_and_a_bounce_is_flagged(
    server: tuple[int, Path],
) -> None:
    settings = pillar(
        *server,
        docs={"hosts": ["docs.example.org", "old.example.org"], "holds": "docs.example.org on"},
        www={"hosts": ["www-test.example.org"]},
        gone={"hosts": ["gone.example.org"]},
        other={"hosts": ["other.example.org"], "holds": "something else"},
        foreign={"hosts": ["foreign.example.org"]},
    )
    Site.asked.clear()
    checked = run("site.check", settings)
    by_host = {vhost["host"]: vhost for vhost in checked["vhosts"]}
    docs = by_host["docs.example.org"]
    assert (docs["status"], docs["problem"], docs["address"]) == (200, None, ADDRESS)
    assert docs["redirects"] == ["https://docs.example.org/wiki/Main_Page"]
    # A redirect to a name that the hosts file leads to the new side stays there.
    assert by_host["old.example.org"]["problem"] is None
    www = by_host["www-test.example.org"]
    assert www["bounces"]
    assert "production" in www["problem"]
    assert "answers 404" in by_host["gone.example.org"]["problem"]
    assert "does not hold" in by_host["other.example.org"]["problem"]
    # The certificate is not for this name: a browser would say so as well.
    assert "certificate" in by_host["foreign.example.org"]["problem"].lower()
    assert checked["failed"] == 4
    assert Site.asked
    assert all(host == name for host, name in Site.asked), Site.asked


def test_the_command_line_says_what_it_found(server: tuple[int, Path], tmp_path: Path) -> None:
    settings = pillar(*server, www={"hosts": ["www-test.example.org"]})
    ran = subprocess.run(
        [COMMANDS / "salt-call", "--local", "-c", tmp_path, "-l", "quiet", "--out=json"]
        + ["migrate_site.check", f"pillar={json.dumps(settings)}"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    (vhost,) = json.loads(ran.stdout)["local"]["vhosts"]
    assert vhost["bounces"]
