"""Nobody stays fenced, and no way back is broken, in silence: the bus and the exit code say so within seconds."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import direct
from tests.lab.loopback import Chain
from tests.lab.salt import SaltMaster

SECONDS = 60.0


class Bus:
    """Everything that happens under `migrate/` on a master's bus, as it happens."""

    def __init__(self, master: SaltMaster) -> None:
        command = master.command("state.event", "migrate/*", "quiet=False")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._heard = b""
        # It is there once it hears us; what an alarm said before that it never says again.
        until = time.monotonic() + SECONDS
        while b"migrate/hello" not in self._heard:
            assert time.monotonic() < until, "it hears nothing"
            master.run("event.send", "migrate/hello")
            if select.select([self._process.stdout], [], [], 1)[0]:
                self._heard += os.read(self._process.stdout.fileno(), 65536)

    def _lines(self, seconds: float, missing: str) -> Iterator[str]:
        """Yields lines until the time is over, which is a failure."""
        until = time.monotonic() + seconds
        stream = self._process.stdout
        while True:
            while b"\n" in self._heard:
                line, _, self._heard = self._heard.partition(b"\n")
                yield line.decode()
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"{missing} did not come within {seconds} s"
            # Past the stream's own buffer, for what is read ahead cannot be waited for.
            read = os.read(stream.fileno(), 65536)
            assert read, "the bus ended"
            self._heard += read

    def wait(self, tag: str, words: str, seconds: float = SECONDS) -> None:
        """Waits for an event."""
        for line in self._lines(seconds, f"{tag} {words}"):
            name, _, text = line.partition("\t")
            if name == tag and words in json.loads(text)["alarm"]:
                return
        raise AssertionError("unreachable")

    def until(self, ending: str, seconds: float = 60) -> list[str]:
        """Returns the tags of all events up to the first that ends so."""
        tags: list[str] = []
        for line in self._lines(seconds, ending):
            tags.append(line.partition("\t")[0])
            if tags[-1].endswith(ending):
                return tags
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


@pytest.fixture(scope="module")
def watched(chain: Chain) -> Iterator[SaltMaster]:
    chain.reset()
    settings = {"engines": [{"migrate_watch": {"interval": 1}}]}
    with SaltMaster(chain.pillar(), settings) as master:
        yield master


@pytest.fixture
def bus(fresh_chain: Chain, watched: SaltMaster) -> Iterator[Bus]:
    listening = Bus(watched)
    yield listening
    listening.close()


def alarms(chain: Chain) -> list[str]:
    return list(direct.run(chain.pillar(), "status").answer["alarms"])


def test_every_step_of_a_run_is_on_the_bus_and_on_stderr(
    fresh_chain: Chain, watched: SaltMaster, bus: Bus
) -> None:
    ran = watched.run("state.orchestrate", "migrate.flip")
    assert ran.rc == 0, ran.stdout
    (run,) = {line.split()[0] for line in ran.stderr.splitlines() if line.startswith("flip-")}
    tags = [tag for tag in bus.until("/finished") if tag.startswith(f"migrate/{run}/")]
    lines = [line.split()[1] for line in ran.stderr.splitlines() if line.startswith(run)]
    assert [tag.rpartition("/")[2] for tag in tags] == lines
    assert {"begun", "started", "done", "committed", "released", "finished"} <= set(lines)
    assert fresh_chain.serving() is fresh_chain.new


def test_a_stopped_replica_is_an_alarm_and_its_end_is_told(
    fresh_chain: Chain, watched: SaltMaster, bus: Bus
) -> None:
    fresh_chain["new-db1"].run("STOP SLAVE SQL_THREAD")
    bus.wait("migrate/alarm", "new-db1: replication from")
    assert watched.run("migrate.status").rc == 1
    fresh_chain["new-db1"].run("START SLAVE")
    bus.wait("migrate/alarm/over", "new-db1: replication from")
    assert watched.run("migrate.status").rc == 0


def test_a_fence_that_nobody_owns_is_an_alarm(fresh_chain: Chain, bus: Bus) -> None:
    broken = direct.run(fresh_chain.pillar(), "apply", "panic-after:fence", phase="flip")
    assert broken.problem["kind"] == "defect"
    bus.wait("migrate/alarm", "no primary accepts writes")
    assert any("was not finished" in alarm for alarm in alarms(fresh_chain))
    assert direct.run(fresh_chain.pillar(), "abort").verdict == "aborted"
    assert alarms(fresh_chain) == []


def test_a_run_that_hangs_with_the_notice_up_is_an_alarm_and_ends_with_its_process(
    fresh_chain: Chain,
) -> None:
    pillar = fresh_chain.pillar()
    pillar["notice"] |= {"drain": 60_000, "drain_limit": 60_000, "host_seconds": 1}
    pillar["databases"]["deadlines"] |= {"window": 500}
    run = direct.Command(pillar, "apply", phase="flip")
    run.until("started", "drained")
    run.process.send_signal(signal.SIGSTOP)

    def hanging(**notice: int) -> list[str]:
        told = direct.run({**pillar, "notice": pillar["notice"] | notice}, "status").answer[
            "alarms"
        ]
        return [alarm for alarm in told if "with the notice up" in alarm]

    assert hanging() == [], "a drain takes its time"
    time.sleep(3.2)
    (alarm,) = hanging(drain=1500, drain_limit=1600)
    assert f"process {run.process.pid}" in alarm
    run.process.kill()
    run.wait()
    assert direct.run(pillar, "abort").verdict == "aborted"
    assert not fresh_chain.notice_path("old").exists()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("SET GLOBAL read_only=0", "both primaries accept writes"),
        ("FLUSH TABLES", "somebody wrote on it while it was fenced"),
        ("STOP SLAVE IO_THREAD", "old-db1: replication from"),
    ],
)
def test_what_endangers_the_way_back_is_an_alarm_through_the_soak(
    fresh_chain: Chain, bus: Bus, what: str, words: str
) -> None:
    assert direct.run(fresh_chain.pillar(), "apply", phase="flip").verdict == "done"
    assert alarms(fresh_chain) == []
    fresh_chain.old.run(what)
    bus.wait("migrate/alarm", words)


def test_a_server_that_is_gone_is_an_alarm_and_no_error(fresh_chain: Chain) -> None:
    fresh_chain["relay"].kill()
    shown: dict[str, Any] = direct.run(fresh_chain.pillar(), "status").answer
    assert any(alarm.startswith("new-relay: ") for alarm in shown["alarms"])
    assert shown["primary"] == "old"


def test_what_going_back_would_cost_is_said_at_all_times(fresh_chain: Chain) -> None:
    def way_back() -> str:
        return str(direct.run(fresh_chain.pillar(), "status").answer["way_back"])

    row = "INSERT INTO site.writes (run,writer,attempt,side,at) VALUES (1,1,1,'new',SYSDATE(6))"
    assert way_back() == "the old side serves"
    assert direct.run(fresh_chain.pillar(), "apply", phase="flip").verdict == "done"
    assert "a revert loses nothing" in way_back()
    fresh_chain.old.run("STOP SLAVE")
    received = fresh_chain.old.value("SELECT @@gtid_current_pos")
    fresh_chain.new.run(row)
    written = fresh_chain.new.value("SELECT @@gtid_current_pos")
    assert f"everything up to {received}, and new-db1 is at {written}" in way_back()
    fresh_chain.new.kill()
    assert f"received everything up to {received}" in way_back()
    assert "on new-db1 alone" in way_back()
