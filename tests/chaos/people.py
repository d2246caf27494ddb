"""Readers and editors of a small site, through the edge; and its application, one node on each side.

The application reads and writes the database primary of its own side, and shows the notice while its file is there.

    python -m tests.chaos.people        # the application; told on standard input where everything is
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import subprocess
import sys
import threading
import urllib.parse
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import pymysql

from tests.lab.loopback import Chain
from tests.lab.mariadb import IN_CLEAR

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = {"old": "127.0.0.13", "new": "127.0.0.23"}
TABLE = "CREATE TABLE IF NOT EXISTS site.edits (id VARCHAR(40) NOT NULL, at DATETIME(6) NOT NULL, KEY (id))"


class Application:
    """The process of both nodes; a context manager."""

    def __init__(self, chain: Chain) -> None:
        self._told = {
            side: {
                "node": NODES[side],
                "notice": str(chain.notice_path(side)),
                "database": {
                    "host": server.address,
                    "port": chain.port,
                    "user": chain.app.user,
                    "password": chain.app.password,
                },
            }
            for side, server in (("old", chain.old), ("new", chain.new))
        }
        self.port = 0

    def __enter__(self) -> Application:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.people"],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        # Through the pipe, not the command line: it holds a password. It ends when the pipe does.
        self._process.stdin.write(json.dumps(self._told) + "\n")
        self._process.stdin.flush()
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)


class People:
    """One reader and one editor per point of presence, as threads; enter to begin, leave to stop."""

    def __init__(self, pops: list[str], name: str, edits: str = "", pause: float = 0.2) -> None:
        """`name` is the site's; what they write begins with `edits`, which nobody before them used."""
        self._pops, self._name, self._pause = pops, name, pause
        self._edits = edits or name
        self._ending = threading.Event()
        self._count = Counter[str]()
        self._lock = threading.Lock()
        self.saved: list[str] = []
        self.examples: list[str] = []

    def __enter__(self) -> People:
        self._threads = [
            threading.Thread(target=work, args=(pop, number), daemon=True)
            for number, pop in enumerate(self._pops)
            for work in (self._read, self._edit)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @property
    def seen(self) -> dict[str, Any]:
        """Counts of what people met, with a few errors in their words."""
        words = ("read", "reader_errors", "saved", "notice", "editor_errors")
        return {word: self._count[word] for word in words} | {"examples": self.examples[:4]}

    def lost(self, chain: Chain) -> dict[str, int]:
        """Counts saved edits that the serving primary has not, and those it has twice."""
        rows = chain.serving().run("SELECT id, COUNT(*) AS times FROM site.edits GROUP BY 1")
        present = {row["id"]: row["times"] for row in rows}
        return {
            "acknowledged": len(self.saved),
            "lost": sum(1 for ident in self.saved if ident not in present),
            "duplicated": sum(1 for times in present.values() if times > 1),
        }

    def _read(self, pop: str, number: int) -> None:
        while not self._ending.wait(self._pause):
            status, body = self.ask(pop, "GET", "/")
            good = status == 200 and body.startswith("page of")
            self._note("read" if good else "reader_errors", "" if good else f"{status} {body}")

    def _edit(self, pop: str, number: int) -> None:
        attempt = 0
        while not self._ending.wait(self._pause):
            attempt += 1
            ident = f"{self._edits}-{number}-{attempt}"
            status, body = self.ask(pop, "POST", "/?" + urllib.parse.urlencode({"id": ident}))
            if status == 200:
                with self._lock:
                    self.saved.append(ident)
            word = {200: "saved", 503: "notice"}.get(status, "editor_errors")
            if status == 503 and "Migration" not in body:
                word = "editor_errors"
            self._note(word, f"{status} {body}" if word == "editor_errors" else "")

    def ask(self, pop: str, method: str, path: str) -> tuple[int, str]:
        """One request by the site's name; status 0 where there was no answer."""
        connection = http.client.HTTPConnection(pop, timeout=10)
        try:
            connection.request(method, path, headers={"Host": f"{self._name}.example.org"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def _note(self, word: str, problem: str) -> None:
        with self._lock:
            self._count[word] += 1
            if problem:
                self.examples.append(f"{word}: {problem[:160]}")


class _Node(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, told: dict[str, Any], port: int, side: str) -> None:
        super().__init__((told["node"], port), _Answer)
        self.told, self.side = told, side
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Node

    def do_GET(self) -> None:
        self._say(*self._with_database("SELECT COUNT(*) FROM site.edits", ()))

    def do_POST(self) -> None:
        notice = Path(self.server.told["notice"])
        with contextlib.suppress(FileNotFoundError):
            self._say(503, notice.read_text())
            return
        ident = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["id"][0]
        insert = "INSERT INTO site.edits (id, at) VALUES (%s, SYSDATE(6))"
        self._say(*self._with_database(insert, (ident,)))

    def _with_database(self, sql: str, arguments: tuple[Any, ...]) -> tuple[int, str]:
        limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), 5)
        try:
            with (
                contextlib.closing(
                    pymysql.connect(
                        **self.server.told["database"], **limits, autocommit=True, **IN_CLEAR
                    )
                ) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(sql, arguments)
        except (pymysql.err.Error, OSError) as error:
            return 500, str(error)
        return 200, f"page of {self.server.side}"

    def _say(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing: the judges speak."""


def main() -> None:
    """Serves until standard input ends."""
    told = json.loads(sys.stdin.readline())
    old = _Node(told["old"], 0, "old")
    # Both nodes have one port, as the edge's services know it.
    _Node(told["new"], int(old.server_address[1]), "new")
    print(old.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
