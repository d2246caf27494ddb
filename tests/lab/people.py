"""Readers and editors of the site, outside the product: they see it through the edge, as people do.

Run as a process of its own (a busy test must not slow it), with one thread per person. Every
request is one JSON line: who, through which POP, when sent, when answered, what came of it. Times
are CLOCK_MONOTONIC, which all processes of this machine share. `verdict` judges the lines.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PUBLIC_NAME = "docs.example.org"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Load:
    """How many people there are, and what they expect to see."""

    # Name of a POP (or of an application node, where there is no edge) -> address or address:port.
    pops: dict[str, str]
    notice: str
    pages: list[str]
    page_mark: str
    # Per POP. A saver saves without opening a form: its pace is the resolution of the outage.
    readers: int = 2
    editors: int = 1
    savers: int = 1
    read_pause: float = 0.1
    save_pause: float = 0.08
    longest_hold: float = 1.5
    upload_share: float = 0.1
    # Ends by itself, whatever becomes of who started it.
    seconds: float = 300.0
    timeout: float = 10.0
    # Told apart from people of an earlier run on the same wiki.
    run: str = field(default_factory=lambda: f"{random.randrange(16**6):06x}")


class People:
    """The process of people; a context manager, or `start` and `stop`."""

    def __init__(self, load: Load, record: Path) -> None:
        self.load, self.record = load, record
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> People:
        self.record.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tests.lab.people", str(self.record)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=REPOSITORY)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(self.load)).encode())
        self._process.stdin.close()
        return self

    def saves(self, pop: str | None = None) -> int:
        """How many saves were acknowledged so far."""
        lines = self.lines()
        return sum(1 for x in lines if x["saved"] and pop in (None, x["pop"]))

    def wait_saves(self, count: int, seconds: float = 90) -> None:
        """Until each POP acknowledged that many more saves than now."""
        goal = {pop: self.saves(pop) + count for pop in self.load.pops}
        deadline = time.monotonic() + seconds
        while any(self.saves(pop) < wanted for pop, wanted in goal.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"people do not save: {self.lines()[-3:]}")
            time.sleep(0.1)

    def lines(self) -> list[dict[str, Any]]:
        if not self.record.exists():
            return []
        whole = self.record.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def stop(self) -> list[dict[str, Any]]:
        """Let everybody finish the request at hand; returns all lines."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        if self._process is not None:
            self._process.wait(self.load.timeout + 10)
        return self.lines()

    def __enter__(self) -> People:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def ask(
    address: str,
    path: str,
    form: dict[str, str] | None = None,
    upload: tuple[str, bytes] | None = None,
    timeout: float = 10.0,
) -> tuple[int, bytes]:
    """One request by the site's public name, on a connection of its own."""
    headers = {"Host": PUBLIC_NAME, "User-Agent": "people-of-the-lab"}
    body: bytes | None = None
    if upload is not None:
        border = "lab" + random.randbytes(12).hex()
        parts = [
            f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in (form or {}).items()
        ]
        parts.append(
            f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{upload[0]}"'
            "\r\nContent-Type: text/plain\r\n\r\n"
        )
        body = "".join(parts).encode() + upload[1] + f"\r\n--{border}--\r\n".encode()
        headers["Content-Type"] = f"multipart/form-data; boundary={border}"
    elif form is not None:
        body = urllib.parse.urlencode(form).encode()
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("POST" if body is not None else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class _Crowd:
    """The inside of the process: threads that share one file of lines."""

    def __init__(self, load: Load, record: Path) -> None:
        self.load = load
        self.end = threading.Event()
        self._file = record.open("a", buffering=1)
        self._lock = threading.Lock()

    def note(self, kind: str, pop: str, who: str, sent: float, **more: Any) -> None:
        line = {"kind": kind, "pop": pop, "who": who, "sent": sent, "done": time.monotonic()}
        text = json.dumps({**line, "saved": False, **more}) + "\n"
        with self._lock:
            self._file.write(text)

    def read(self, pop: str, who: str) -> None:
        while not self.end.wait(self.load.read_pause * random.uniform(0.5, 1.5)):
            page = random.choice(self.load.pages)
            path = "/index.php?" + urllib.parse.urlencode({"title": page.replace(" ", "_")})
            sent, problem = time.monotonic(), ""
            try:
                status, body = ask(self.load.pops[pop], path, timeout=self.load.timeout)
                if not 200 <= status < 400:
                    problem = f"status {status}"
                elif self.load.page_mark.encode() not in body:
                    problem = "another page: " + body[:120].decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            self.note("read", pop, who, sent, page=page, problem=problem)

    def edit(self, pop: str, who: str) -> None:
        """Open the form, think, save; now and then a file instead."""
        attempt = 0
        while not self.end.is_set():
            attempt += 1
            if not self._open_form(pop, who):
                self.end.wait(0.3)
                continue
            # Who is thinking when the end comes still saves: that is when things go wrong.
            time.sleep(random.uniform(0, self.load.longest_hold))
            if random.random() < self.load.upload_share:
                self._upload(pop, who, attempt)
            else:
                self._save(pop, who, attempt)

    def save(self, pop: str, who: str) -> None:
        attempt = 0
        while not self.end.is_set():
            attempt += 1
            self._save(pop, who, attempt)
            self.end.wait(self.load.save_pause)

    def _page(self, who: str) -> str:
        return f"Notes of {who} {self.load.run}"

    def _open_form(self, pop: str, who: str) -> bool:
        query = {"title": self._page(who).replace(" ", "_"), "action": "edit"}
        path = "/index.php?" + urllib.parse.urlencode(query)
        sent, outcome, problem = time.monotonic(), "open", ""
        try:
            status, body = ask(self.load.pops[pop], path, timeout=self.load.timeout)
            if status == 200 and self.load.notice.encode() in body:
                outcome = "notice"
            elif status != 200 or b"wpTextbox1" not in body:
                outcome, problem = "error", f"status {status}, no form"
        except (OSError, http.client.HTTPException) as error:
            outcome, problem = "error", f"{type(error).__name__}: {error}"
        self.note("form", pop, who, sent, outcome=outcome, problem=problem)
        return outcome == "open"

    def _save(self, pop: str, who: str, attempt: int) -> None:
        ident = f"{who}-{self.load.run}-{attempt:06d}"
        form = {"action": "edit", "format": "json", "title": self._page(who), "token": "+\\"}
        form |= {"appendtext": f"\n* {ident}.", "summary": ident}
        self._post("save", pop, who, ident, form, None)

    def _upload(self, pop: str, who: str, attempt: int) -> None:
        ident = f"{who}-{self.load.run}-{attempt:06d}"
        form = {"action": "upload", "format": "json", "filename": f"{ident}.txt"}
        form |= {"comment": ident, "token": "+\\", "ignorewarnings": "1"}
        file = (f"{ident}.txt", f"file of {ident}\n".encode())
        self._post("upload", pop, who, ident, form, file)

    def _post(
        self, kind: str, pop: str, who: str, ident: str, form: dict[str, str], file: Any
    ) -> None:
        sent, outcome, problem = time.monotonic(), "error", ""
        try:
            timeout = self.load.timeout
            status, body = ask(self.load.pops[pop], "/api.php", form, file, timeout)
            problem = f"status {status}: {body[:200].decode(errors='replace')}"
            answer = json.loads(body)
            if status == 200 and answer.get(form["action"], {}).get("result") == "Success":
                outcome, problem = "saved", ""
            # Read-only for another reason, the database's own, is an error to an editor.
            elif self.load.notice in answer.get("error", {}).get("readonlyreason", ""):
                outcome, problem = "notice", ""
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = problem or f"{type(error).__name__}: {error}"
        saved = outcome == "saved"
        more = {"id": ident, "outcome": outcome, "problem": problem, "saved": saved}
        self.note(kind, pop, who, sent, page=self._page(who), **more)

    def run(self) -> None:
        load, parent = self.load, os.getppid()
        parts = {"reader": self.read, "editor": self.edit, "saver": self.save}
        counts = {"reader": load.readers, "editor": load.editors, "saver": load.savers}
        threads = [
            threading.Thread(target=parts[part], args=(pop, f"{part}{number}-{pop}"))
            for pop in load.pops
            for part, count in counts.items()
            for number in range(count)
        ]
        signal.signal(signal.SIGTERM, lambda *_: self.end.set())
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + load.seconds
        while time.monotonic() < deadline and os.getppid() == parent:
            if self.end.wait(0.2):
                break
        self.end.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    _Crowd(Load(**json.load(sys.stdin)), Path(sys.argv[1])).run()
