"""The edge stand-in bears the official clients for the whole life of a service that uses every kind of object."""

from __future__ import annotations

import http.client
import http.server
import importlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_edge_standin import Cli, cli, cli_program  # noqa: F401
from tests.lab.edge.standin import Edge
from tests.lab.edge.tls import Forwarders

fastly = pytest.importorskip("fastly", reason="the official Python client is not installed")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    with Edge(("127.0.1.1:0",), delay="none", spread=(0,), staging="127.0.1.3:0") as running:
        yield running


def get(pop: str, host: str, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection(pop, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def rows(listed: Any) -> Any:
    """The client wraps the lists of some kinds in a model."""
    return listed.value if hasattr(listed, "value") else listed


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.01)


# Of each kind: module and class, what creates, lists and deletes one, and what is sent.
OBJECTS: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("condition", "create_condition", "list_conditions", "delete_condition",
     {"name": "wiki", "type": "REQUEST", "statement": 'req.url ~ "^/wiki"', "priority": "5"}),
    ("healthcheck", "create_healthcheck", "list_healthchecks", "delete_healthcheck",
     {"name": "alive", "path": "/alive", "method": "GET", "check_interval": 60000}),
    ("backend", "create_backend", "list_backends", "delete_backend",
     {"name": "app1", "address": "127.0.0.1", "port": 9, "healthcheck": "alive"}),
    ("director", "create_director", "list_directors", "delete_director",
     {"name": "all", "type": 1, "quorum": 50}),
    ("dictionary", "create_dictionary", "list_dictionaries", "delete_dictionary", {"name": "table"}),
    ("acl", "create_acl", "list_acls", "delete_acl", {"name": "office"}),
    ("gzip", "create_gzip_config", "list_gzip_configs", "delete_gzip_config",
     {"name": "text", "content_types": "text/html", "extensions": "css"}),
    ("header", "create_header_object", "list_header_objects", "delete_header_object",
     {"name": "who", "type": "response", "action": "set", "dst": "http.X-Who", "src": '"me"'}),
    ("cache_settings", "create_cache_settings", "list_cache_settings", "delete_cache_settings",
     {"name": "long", "ttl": "600", "action": "cache"}),
    # The client cannot send what these two are to be: they are made beside it.
    ("request_settings", "", "list_request_settings",
     "delete_request_settings", {"name": "ours", "xff": "append"}),
    ("response_object", "", "list_response_objects",
     "delete_response_object",
     {"name": "gone", "status": "410", "response": "Gone", "request_condition": "wiki"}),
    ("snippet", "create_snippet", "list_snippets", "delete_snippet",
     {"name": "static", "type": "recv", "content": "# nothing", "dynamic": "0"}),
    ("logging_syslog", "create_log_syslog", "list_log_syslog", "delete_log_syslog",
     {"name": "central", "address": "127.0.0.1", "port": 514}),
]  # fmt: skip


def test_the_python_client_lives_a_service_of_every_kind(edge: Edge) -> None:
    configuration = fastly.Configuration(host=edge.api)
    configuration.api_token = edge.token
    with fastly.ApiClient(configuration) as client:

        def api(kind: str) -> Any:
            module = importlib.import_module(f"fastly.api.{kind}_api")
            name = "".join(part.capitalize() for part in kind.split("_"))
            return getattr(module, f"{name}Api")(client)

        made = api("service").create_service(name="every", type="vcl")
        one = {"service_id": made.id, "version_id": 1}
        api("domain").create_domain(**one, name="every.example.org")
        ids = {}
        for kind, create, listing, _, sent in OBJECTS:
            if create:
                answer = getattr(api(kind), create)(**one, **sent)
                assert answer.name == sent["name"], kind
                ids[kind] = answer.to_dict().get("id")
            else:
                edge.must("POST", f"/service/{made.id}/version/1/{kind}", sent)
            listed = [
                item.to_dict() if hasattr(item, "to_dict") else item
                for item in rows(getattr(api(kind), listing)(**one))
            ]
            assert [item["name"] for item in listed] == [sent["name"]], kind
        # Taken back at once: the client cannot read a director that has backends, for the API tells their names.
        related = one | {"director_name": "all", "backend_name": "app1"}
        relations = api("director_backend")
        assert relations.create_director_backend(**related).director == "all"
        assert relations.get_director_backend(**related).version == 1
        assert relations.delete_director_backend(**related).status == "ok"
        items = api("dictionary_item")
        where = {"service_id": made.id, "dictionary_id": ids["dictionary"]}
        items.create_dictionary_item(**where, item_key="a", item_value="1")
        assert [item.item_value for item in rows(items.list_dictionary_items(**where))] == ["1"]
        entries = api("acl_entry")
        where = {"service_id": made.id, "acl_id": ids["acl"]}
        entries.create_acl_entry(**where, acl_entry={"ip": "127.0.0.0", "subnet": 8, "negated": 1})
        assert [entry.negated for entry in rows(entries.list_acl_entries(**where))] == [1]
        api("http3").create_http3(**one)
        assert api("http3").get_http3(**one).service_id == made.id
        settings = api("settings")
        settings.update_service_settings(**one, general_default_ttl=120)
        domains = api("dm_domains")
        beside = domains.create_dm_domain(
            request_body_for_create={"fqdn": "beside.example.org", "service_id": made.id}
        )
        versions = api("version")
        assert versions.validate_service_version(**one).status == "ok"
        assert versions.activate_service_version(**one).active is True
        until(lambda: get(edge.pops[0], "every.example.org", "/wiki")[0] == 410)
        until(lambda: get(edge.pops[0], "beside.example.org", "/wiki")[0] == 410)
        domains.delete_dm_domain(domain_id=beside.id)
        until(lambda: get(edge.pops[0], "beside.example.org")[0] == 500)

        two = {"service_id": made.id, "version_id": versions.clone_service_version(**one).number}
        for kind, _, listing, delete, sent in reversed(OBJECTS):
            name = "name" if kind == "snippet" else f"{kind}_name"
            getattr(api(kind), delete)(**two, **{name: sent["name"]})
            assert len(rows(getattr(api(kind), listing)(**two))) == 0, kind
            assert len(rows(getattr(api(kind), listing)(**one))) == 1, kind
        api("http3").delete_http3(**two)
        with pytest.raises(fastly.ApiException) as off:
            api("http3").get_http3(**two)
        assert off.value.status == 404
        versions.deactivate_service_version(**one)
        assert api("service").delete_service(service_id=made.id).status == "ok"


def test_the_cli_lives_a_service_of_many_kinds(edge: Edge, cli: Cli) -> None:  # noqa: F811
    cli("create", "--name", "cli-every")
    ident = edge.must("GET", "/service/search?name=cli-every")["id"]
    draft = ("--service-id", ident, "--version", "1")
    cli("domain", "create", *draft, "--name", "cli-every.example.org")
    cli("healthcheck", "create", *draft, "--name", "alive", "--path", "/alive")
    cli("backend", "create", *draft, "--name", "app1", "--address", "127.0.0.1", "--port", "9",
        "--healthcheck", "alive")  # fmt: skip
    cli("acl", "create", *draft, "--name", "office")
    acl = edge.must("GET", f"/service/{ident}/version/1/acl/office")["id"]
    entry = ("--service-id", ident, "--acl-id", acl)
    cli("acl-entry", "create", *entry, "--ip", "127.0.0.0", "--subnet", "8", "--negated")
    (made,) = edge.must("GET", f"/service/{ident}/acl/{acl}/entries")
    assert str(made["negated"]) == "1"
    cli("dictionary", "create", *draft, "--name", "table")
    table = edge.must("GET", f"/service/{ident}/version/1/dictionary/table")["id"]
    where = ("--service-id", ident, "--dictionary-id", table)
    cli("dictionary-entry", "create", *where, "--key", "a", "--value", "1")
    assert "1" in cli("dictionary-entry", "list", *where).stdout
    snippet = ("--name", "dynamic", "--type", "recv", "--content", "# one", "--dynamic")
    cli("vcl", "snippet", "create", *draft, *snippet)
    cli("vcl", "condition", "create", *draft, "--name", "wiki", "--type", "REQUEST",
        "--statement", 'req.url ~ "^/wiki"')  # fmt: skip
    cli("rate-limit", "create", *draft, "--name", "slow", "--rps-limit", "10",
        "--window-size", "60", "--action", "response", "--client-key", "req.http.X",
        "--http-methods", "GET", "--penalty-box-dur", "2", "--response-status", "429",
        "--response-content", "slow", "--response-content-type", "text/plain")  # fmt: skip
    cli("logging", "syslog", "create", *draft, "--name", "central", "--address", "127.0.0.1")
    cli("version", "activate", *draft)
    cli("version", "clone", *draft)
    cli("backend", "update", "--service-id", ident, "--version", "2", "--name", "app1",
        "--address", "127.0.0.2")  # fmt: skip
    cli("version", "stage", "--service-id", ident, "--version", "2")
    shown = edge.must("GET", f"/service/{ident}/version/2")
    assert shown["environments"][0]["name"] == "staging"
    cli("version", "unstage", "--service-id", ident, "--version", "2")
    cli("version", "deactivate", *draft)
    cli("delete", "--service-id", ident)


def test_the_staging_network_serves_what_was_put_there_and_nothing_else(edge: Edge) -> None:
    ident = edge.create_service("staged", ["staged.example.org"])
    edge.must("PUT", f"/service/{ident}/version/1/clone")
    page = {"name": "page", "status": 410, "response": "Gone", "content": "two"}
    edge.must("POST", f"/service/{ident}/version/2/response_object", page)
    assert edge.staging
    assert get(edge.staging, "staged.example.org")[0] == 500
    edge.must("PUT", f"/service/{ident}/version/2/activate/staging")
    assert get(edge.staging, "staged.example.org") == (410, "two")
    until(lambda: get(edge.pops[0], "staged.example.org")[0] == 503)
    (domain,) = edge.must("GET", f"/service/{ident}/version/2/domain?include=staging_ips")
    assert domain["staging_ip"] == "127.0.1.3"
    edge.must("PUT", f"/service/{ident}/version/2/deactivate/staging")
    assert get(edge.staging, "staged.example.org")[0] == 500
    edge.must("PUT", f"/service/{ident}/version/1/deactivate")
    edge.must("DELETE", f"/service/{ident}")


class _Origin(http.server.ThreadingHTTPServer):
    """An origin that speaks TLS, and tells the name it was asked for."""

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.asked: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: self.asked.append(name)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.welcomed = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.welcomed.set()
        super().process_request(request, client_address)

    def handle_error(self, *_: Any) -> None:
        """Keeps quiet: a client that hangs up is what some tests are about."""


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"safe"
        self.send_response(200)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    assert openssl
    path = tmp_path_factory.mktemp("tls") / "origin.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "2", "-subj", "/CN=app", "-keyout", str(path),
               "-out", str(path) + ".crt", "-addext", "subjectAltName=DNS:app.example.org"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"ssl_cert_hostname": "app.example.org", "ssl_sni_hostname": "sni.example.org"}, 200),
        ({"ssl_cert_hostname": "other.example.org"}, 503),
        ({"ssl_cert_hostname": "app.example.org", "ssl_ca_cert": None}, 503),
        ({"ssl_check_cert": False, "ssl_ca_cert": None}, 200),
    ],
    ids=["right", "another name", "nobody vouches for it", "not checked"],
)
def test_tls_to_backends_is_checked_as_the_backend_says(
    edge: Edge, certificate: Path, fields: dict[str, Any], status: int
) -> None:
    origin = _Origin(certificate)
    authority = Path(str(certificate) + ".crt").read_text()
    backend = {"name": "app1", "address": "127.0.0.1", "port": origin.server_address[1],
               "use_ssl": True, "ssl_ca_cert": authority} | fields  # fmt: skip
    backend = {key: value for key, value in backend.items() if value is not None}
    ident = edge.create_service("tls", ["tls.example.org"], [backend])
    try:
        until(lambda: get(edge.pops[0], "tls.example.org")[0] != 500)
        answer = get(edge.pops[0], "tls.example.org")
        assert answer[0] == status
        if status == 200:
            assert answer[1] == "safe"
        if "ssl_sni_hostname" in fields:
            assert set(origin.asked) == {"sni.example.org"}
    finally:
        edge.must("PUT", f"/service/{ident}/version/1/deactivate")
        edge.must("DELETE", f"/service/{ident}")
        origin.shutdown()
        origin.server_close()


def test_a_request_that_comes_after_the_tickets_of_the_session_is_passed_on(
    certificate: Path, tmp_path: Path
) -> None:
    origin = _Origin(certificate)
    backend = {"name": "app1", "address": "127.0.0.1", "port": origin.server_address[1],
               "ssl_check_cert": False}  # fmt: skip
    path = Forwarders(tmp_path / "tls").socket(backend, "127.0.0.1")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        assert origin.welcomed.wait(10)
        # The tickets are under way; nothing tells when the forwarder has met them.
        time.sleep(0.1)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    origin.shutdown()
    origin.server_close()
    assert answer.endswith(b"safe")


def test_what_cannot_be_run_says_so_to_everybody_where_that_is_asked_for(edge: Edge) -> None:
    ident = edge.create_service("hollow", ["hollow.example.org"], activate=False)
    own = {"name": "own", "content": "sub vcl_recv {}", "main": True}
    edge.must("POST", f"/service/{ident}/version/1/vcl", own)
    assert edge.ask("PUT", f"/service/{ident}/version/1/activate")[0] == 400
    edge.settings(unrunnable="hollow")
    try:
        edge.activate(ident, 1)
    finally:
        edge.settings(unrunnable="refuse")
    until(lambda: get(edge.pops[0], "hollow.example.org")[0] == 503)
    assert "VCL 'own': custom VCL cannot be run" in get(edge.pops[0], "hollow.example.org")[1]
    edge.must("PUT", f"/service/{ident}/version/1/deactivate")
    edge.must("DELETE", f"/service/{ident}")


def test_it_can_be_started_alone_as_the_page_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "edge.md").read_text()
    found = re.search(r"python (-m tests\.lab\.edge [^\n]+)", page)
    assert found
    words = found[1].replace("127.0.0.1:8080", "127.0.0.1:0").replace(":8081", ":0").split()
    words[words.index("--state") + 1] = str(tmp_path / "s")
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE,
        env=os.environ | {"FASTLY_STANDIN_TOKEN": "given"},
    )  # fmt: skip
    try:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["token"] == "given"
        connection = http.client.HTTPConnection(ready["api"].removeprefix("http://"), timeout=10)
        connection.request("GET", "/tokens/self", headers={"Fastly-Key": "given"})
        assert json.loads(connection.getresponse().read())["scopes"] == ["global"]
        connection.close()
        assert get(ready["pops"]["pop1"], "nobody.example.org")[0] == 500
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()
