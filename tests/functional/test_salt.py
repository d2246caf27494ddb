"""What Salt adds, and its traps: pillar, secrets, documents, exit codes, signals, forks."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import salt.config
from salt.returners import local_cache

from saltext.migrate import bridge
from tests.lab import direct, world
from tests.lab.loopback import MINION, Chain
from tests.lab.overheard import Overheard, written
from tests.lab.salt import COMMANDS, Ran, SaltMaster
from tests.lab.watch import Watch
from tests.lab.writer import Writer, judge

FUNCTIONS = {
    *("plan", "preflight", "prepare", "flip", "revert", "abort", "status", "report"),
    *("addresses", "tripwire", "crossings", "checksum"),
    *("test", "compare", "rehearse", "announcement", "signoff", "cleanup"),
}
# They change the site, or ask for what this one has not; each has tests of its own.
ELSEWHERE = {"prepare", "flip", "revert", "addresses", "tripwire", "crossings", "checksum", "test", "compare",
             "rehearse", "announcement", "signoff", "cleanup"}  # fmt: skip


@pytest.fixture
def master(salt_master: SaltMaster, chain: Chain) -> Iterator[SaltMaster]:
    """The master, whose pillar a test may change."""
    yield salt_master
    salt_master.set_pillar(chain.pillar())
    for path in salt_master.states.iterdir():
        path.unlink()


def clean(ran: Ran) -> None:
    """Asserts that a refusal is words and no traceback."""
    assert ran.rc == 1, ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "hint: " in ran.stdout


# -- the pillar ---------------------------------------------------------------------------------


def test_a_missing_key_is_named_wherever_it_is_asked_for(master: SaltMaster) -> None:
    broken = {"nodes": {"old": {}, "new": {}}}
    master.set_pillar(broken)
    for arguments in (["migrate.plan"], ["migrate.status"], ["state.orchestrate", "migrate.flip"]):
        ran = master.run(*arguments)
        clean(ran)
        assert "migrate: found nothing, expected the key `databases`" in ran.stdout.replace(
            '\\"', ""
        )


def test_an_orchestration_takes_what_is_given_on_its_command_line(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    words = "The wiki moves house."
    override = json.dumps({"migrate": {"notice": {"text": words}}})
    ran = master.run("state.orchestrate", "migrate.flip", f"pillar={override}")
    assert ran.rc == 0, ran.stdout
    assert fresh_chain.notice_path("old").read_text() == f"{words}\n"
    # The plain pillar wants the other words, and says so.
    assert "notice.old" in [
        change["step"] for change in master.run("migrate.plan").answer["changes"]
    ]


def test_a_wrong_value_on_the_command_line_is_refused_with_its_path(master: SaltMaster) -> None:
    override = json.dumps({"migrate": {"databases": {"max_lag": "soon"}}})
    ran = master.run("state.orchestrate", "migrate.flip", f"pillar={override}")
    clean(ran)
    assert "migrate:databases:max_lag" in ran.stdout
    assert "soon" not in ran.stdout, "a misplaced secret would stand there"


# -- secrets ------------------------------------------------------------------------------------


def test_secrets_come_by_reference_and_stand_nowhere(chain: Chain, tmp_path: Path) -> None:
    chain.reset()
    pillar = chain.pillar()
    accounts = pillar["databases"]["accounts"]
    secrets = {name: account["password"] for name, account in accounts.items()}
    for name, account in accounts.items():
        account["password"] = f"sdb://vault/{name}"
    vault = tmp_path / "vault.yaml"
    vault.write_text(json.dumps(secrets))
    settings = {"vault": {"driver": "yaml", "files": [str(vault)]}, "log_level_logfile": "debug"}
    with SaltMaster(pillar, settings) as master:
        with Overheard(master) as overheard:
            flipped = master.run("state.orchestrate", "migrate.flip", "-l", "debug")
        assert flipped.rc == 0, flipped.stdout
        assert "migrate.flip" in overheard.processes and "migrate/flip-" in overheard.events
        assert chain.serving() is chain.new
        accounts["admin"]["password"] = "sdb://vault/nobody"
        master.set_pillar(pillar)
        refused = master.run("migrate.status")
        clean(refused)
        assert "sdb://vault/nobody" in refused.stdout
        said = flipped.stdout + flipped.stderr + refused.stdout + refused.stderr
        everything = said + overheard.all + written(master.home, chain.state / "migrate")
        assert len(everything) > 100_000
        assert [name for name, secret in secrets.items() if secret in everything] == []


def test_secrets_come_out_of_a_pillar_that_is_encrypted(chain: Chain) -> None:
    chain.reset()
    pillar = chain.pillar()
    # Short, for gpg's agent has a socket in it.
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as folder:
        gpg = ["gpg", "--homedir", folder, "--batch", "--quiet", "--trust-model", "always"]
        key = ["--passphrase", "", "--quick-generate-key", "migrate", "default", "default", "never"]
        subprocess.run([*gpg, *key], check=True, capture_output=True)
        try:
            for account in pillar["databases"]["accounts"].values():
                encrypt = [*gpg, "--armor", "--encrypt", "--recipient", "migrate"]
                done = subprocess.run(
                    encrypt, input=account["password"], check=True, capture_output=True, text=True
                )
                account["password"] = done.stdout
            with SaltMaster(pillar, {"gpg_keydir": folder}) as master:
                rendered = master.pillar.read_text().replace("#!json", "#!json|gpg")
                master.pillar.write_text(rendered)
                answer = master.run("migrate.status")
                assert answer.rc == 0, answer.stdout
                plan = master.run("state.orchestrate", "migrate.flip", "test=True")
                assert plan.rc == 0, plan.stdout
                assert "promotion" in plan.stdout
        finally:
            agent = ["gpgconf", "--homedir", folder, "--kill", "gpg-agent"]
            subprocess.run(agent, check=True)


def test_an_ordinary_minion_cannot_flip(fresh_chain: Chain, master: SaltMaster) -> None:
    # A minion publishes nothing unless the master's `peer_run` lets it.
    asked = master.call_minion("publish.runner", "migrate.flip")
    assert "verdict" not in asked.stdout
    events = master.call_minion("event.send", "salt/run/migrate.flip", '{"fun": "migrate.flip"}')
    assert events.rc == 0
    # Nor does it hold the pillar with which it could do so by itself.
    alone = master.call_minion("migrate_mysql.status", "old-db1")
    assert "put the key `migrate` into the pillar" in alone.stdout
    assert fresh_chain.serving() is fresh_chain.old


# -- documents ----------------------------------------------------------------------------------


def documents(master: SaltMaster) -> dict[str, str]:
    """The text of each function of the runner."""
    parts = re.split(r'(?m)^"?(migrate\.\w+):"?$', master.run("-d", "migrate").stdout)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_function_is_documented_with_an_example(master: SaltMaster) -> None:
    shown = documents(master)
    assert {name.removeprefix("migrate.") for name in shown} == FUNCTIONS
    for name, text in shown.items():
        assert re.search(rf"CLI Example:\s+salt-run {name}\b", text), name


def test_the_examples_that_read_run(fresh_chain: Chain, master: SaltMaster) -> None:
    assert master.run("migrate.flip").rc == 0
    ran = 0
    for text in documents(master).values():
        for example in re.findall(r"salt-run (migrate\.[\w. =-]+)", text):
            # Nor is a side that is there given up.
            if example.split()[0].removeprefix("migrate.") in ELSEWHERE or "is_off" in example:
                continue
            assert master.run(*example.split()).rc == 0, example
            ran += 1
    assert ran >= len(FUNCTIONS - ELSEWHERE)
    assert fresh_chain.serving() is fresh_chain.new


def test_the_execution_module_is_documented_and_answers(fresh_chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "top.sls").write_text("base:\n  '*':\n    - migrate\n")
    (tmp_path / "migrate.sls").write_text(
        "#!json\n" + json.dumps({"migrate": fresh_chain.pillar()}) + "\n"
    )
    minion = {"id": "any", "root_dir": str(tmp_path), "pillar_roots": {"base": [str(tmp_path)]}}
    (tmp_path / "minion").write_text(json.dumps(minion))

    def call(*arguments: str) -> dict[str, object]:
        command = [str(COMMANDS / "salt-call"), "--local", "--out=json", f"-c{tmp_path}"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, object] = json.loads(done.stdout)["local"]
        return answer

    shown = call("sys.doc", "migrate_mysql")
    assert len(shown) >= 3
    for name, text in shown.items():
        example = re.search(rf"salt-run salt\.cmd ({re.escape(name)}.*)", str(text))
        assert example, name
        assert call(*example[1].split()) not in (None, "", {}), name


# -- exit codes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["migrate.plan", "sideways"], "expected prepare, test, flip, revert or cleanup"),
        (["migrate.plan", "[1, 2]"], "expected prepare, test, flip, revert or cleanup"),
        (["migrate.preflight", "{}"], "expected prepare, test, flip, revert or cleanup"),
        (["migrate.flip", "force=True"], "expected the id of one finding"),
        (["migrate.flip", "quickly=True"], "unexpected keyword argument 'quickly'"),
        (["migrate.flip", "now"], "expected a reason"),
        (["migrate.status", "now"], "too many positional arguments"),
        (["migrate.addresses", "seconds=[60]"], "migrate.addresses: int() argument must be"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_no_success(
    fresh_chain: Chain, master: SaltMaster, arguments: list[str], words: str
) -> None:
    ran = master.run(*arguments)
    clean(ran)
    assert words in ran.stdout
    plain = [value for value in arguments[1:] if "=" not in value]
    named = dict(value.split("=") for value in arguments[1:] if "=" in value)
    step = [{"name": arguments[0]}, {"arg": plain}, {"kwarg": named}]
    (master.states / "step.sls").write_text(json.dumps({"step": {"salt.runner": step}}))
    assert master.run("state.orchestrate", "step").rc == 1
    assert fresh_chain.serving() is fresh_chain.old


def test_what_is_a_success_is_one_as_a_step_of_an_orchestration(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    step = "{0}:\n  salt.runner:\n    - name: migrate.{0}\n"
    names = ("plan", "preflight", "flip", "report", "status")
    (master.states / "steps.sls").write_text("".join(map(step.format, names)))
    ran = master.run("state.orchestrate", "steps")
    assert ran.rc == 0, ran.stdout
    assert fresh_chain.serving() is fresh_chain.new


def test_an_argument_that_a_state_has_not_is_no_success_of_an_orchestration(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    (master.states / "wrong.sls").write_text(
        "flip:\n  migrate.flipped:\n    - forced: [1, 2]\nafter:\n  test.succeed_with_changes:\n"
        "    - require: [{migrate: flip}]\n"
    )
    ran = master.run("state.orchestrate", "wrong")
    assert ran.rc == 1
    assert ran.states["flip"]["result"] is False
    assert "forced" in ran.states["flip"]["comment"]
    assert ran.states["after"]["result"] is False
    assert fresh_chain.serving() is fresh_chain.old


def test_a_defect_behind_the_fence_is_a_failure_and_the_guard_opens_the_source(
    fresh_chain: Chain, master: SaltMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.look(fresh_chain)
    monkeypatch.setenv(direct.DRILL, "panic-after:fence")
    with Watch(fresh_chain), Writer(fresh_chain, threads=1) as writer:
        ran = master.run("state.orchestrate", "migrate.flip")
        monkeypatch.delenv(direct.DRILL)
        assert ran.rc == 1
        assert ran.states["flip"]["result"] is False
        assert "a defect of this tool: drill panic-after fence" in ran.states["flip"]["comment"]
        deadline = time.monotonic() + 60
        while world.look(fresh_chain) != before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        count = "SELECT COUNT(*) FROM site.writes"
        written = fresh_chain.old.value(count)
        while fresh_chain.old.value(count) == written:
            assert time.monotonic() < deadline, "it writes again"
            time.sleep(0.1)
    assert judge(fresh_chain, writer.results).lost == []
    assert master.run("migrate.status").answer["alarms"] == []


# -- signals and forks --------------------------------------------------------------------------


def interrupted(
    master: SaltMaster,
    phase: str,
    word: str,
    step: str,
    number: signal.Signals,
    until: str | None = None,
) -> Ran:
    """Orchestrates a phase and signals it when a progress line appears: once, or `until` a step is undone."""
    with subprocess.Popen(
        # A job of a shell begins with SIGINT ignored.
        [sys.executable, "-c", _DEFAULT, *master.command("state.orchestrate", f"migrate.{phase}")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.split()[1:3] == [word, step]:
                break
        process.send_signal(number)
        over = threading.Event()

        def press() -> None:
            while not over.wait(0.1):
                process.send_signal(number)

        if until:
            threading.Thread(target=press, daemon=True).start()
            for line in process.stderr:
                lines.append(line)
                if line.split()[1:3] == ["undone", until]:
                    break
            over.set()
        output, errors = process.communicate(timeout=120)
    with contextlib.suppress(ValueError):
        return Ran(process.returncode, output, "".join(lines) + errors, json.loads(output))
    return Ran(process.returncode, output, "".join(lines) + errors, None)


_DEFAULT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_before_the_commit_point_takes_everything_back(
    fresh_chain: Chain, master: SaltMaster, number: signal.Signals
) -> None:
    master.set_pillar(
        fresh_chain.pillar() | {"notice": {**fresh_chain.pillar()["notice"], "drain": 3000}}
    )
    before = world.look(fresh_chain)
    with Writer(fresh_chain, threads=1) as writer:
        ran = interrupted(master, "flip", "started", "drained", number)
        assert ran.rc == 1, ran.stdout
        assert ran.states["flip"]["result"] is False
        assert "interrupted" in ran.states["flip"]["comment"]
        assert world.look(fresh_chain) == before
    assert judge(fresh_chain, writer.results).lost == []
    assert writer.results.refused == [], "nobody was fenced"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_after_the_commit_point_lets_the_run_finish(
    fresh_chain: Chain, master: SaltMaster, number: signal.Signals
) -> None:
    with Writer(fresh_chain, threads=1) as writer:
        ran = interrupted(master, "flip", "committed", "promotion", number)
        time.sleep(0.2)
    assert "finished" in ran.stderr
    assert fresh_chain.serving() is fresh_chain.new
    assert direct.run(fresh_chain.pillar(), "plan", phase="flip").answer["changes"] == []
    verdict = judge(fresh_chain, writer.results)
    assert (verdict.lost, verdict.duplicated) == ([], [])


def test_a_terminal_that_goes_away_takes_everything_back(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    master.set_pillar(
        fresh_chain.pillar() | {"notice": {**fresh_chain.pillar()["notice"], "drain": 3000}}
    )
    before = world.look(fresh_chain)
    ours, theirs = pty.openpty()
    with Writer(fresh_chain, threads=1) as writer:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _AT_TERMINAL,
                *master.command("state.orchestrate", "migrate.flip"),
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        with os.fdopen(ours, errors="replace") as terminal:
            for line in terminal:
                if line.split()[1:3] == ["started", "drained"]:
                    break
        # It is hung up here: whoever writes to it is refused, and the session is told.
        assert process.wait(120) != 0
        assert world.look(fresh_chain) == before
    assert judge(fresh_chain, writer.results).lost == []
    assert writer.results.refused == [], "nobody was fenced"
    last = direct.run(fresh_chain.pillar(), "status").answer["last_run"]
    assert "a signal asked for the end" in last["aborting"], "the run itself did, and no guard"


# What a shell of SSH is to a command: it has a terminal of its own, and hears of its end (not so a child of nohup).
_AT_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def test_whoever_presses_again_and_again_does_not_break_into_the_way_back(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    master.set_pillar(
        fresh_chain.pillar() | {"notice": {**fresh_chain.pillar()["notice"], "drain": 3000}}
    )
    before = world.look(fresh_chain)
    ran = interrupted(master, "flip", "started", "drained", signal.SIGINT, until="notice.old")
    assert ran.rc == 1, ran.stdout
    assert "aborted: interrupted" in ran.states["flip"]["comment"]
    assert "interrupted already" in ran.stderr
    assert world.look(fresh_chain) == before


# Once, and only while the engine is at work.
_SIGNALS_ITSELF = """
import signal

handler = signal.getsignal(signal.SIGTERM)
ours = "saltext" in getattr(getattr(handler, "__code__", None), "co_filename", "")
if ours and not os.environ.get("LAB_SIGNALLED"):
    os.environ["LAB_SIGNALLED"] = "yes"
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_while_salt_loads_a_module_is_heard(
    fresh_chain: Chain, master: SaltMaster
) -> None:
    before = world.look(fresh_chain)
    # The first question to a minion loads it; what its import raises Salt takes for a broken module.
    opts = salt.config.master_config(str(master.config / "master"))
    module = Path(opts["extension_modules"], "returners/local_cache.py")
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(Path(local_cache.__file__).read_text() + _SIGNALS_ITSELF)
    try:
        ran = master.run("state.orchestrate", "migrate.flip")
    finally:
        module.unlink()
    assert ran.rc == 1, ran.stdout
    assert "interrupted" in ran.states["flip"]["comment"]
    assert world.look(fresh_chain) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_what_only_looks_ends_at_a_signal(
    fresh_chain: Chain, master: SaltMaster, number: signal.Signals
) -> None:
    before = direct.run(fresh_chain.pillar(), "status").answer["last_run"]
    # A flip that still looks at everything has done nothing yet.
    for name in ("plan", "apply"):
        # It takes a connection, and never says a word.
        with socket.create_server(("0.0.0.0", 0)) as silent:
            pillar = fresh_chain.pillar()
            pillar["databases"]["port"] = silent.getsockname()[1]
            # It says so at once, and not when it has waited for long enough.
            pillar["databases"]["deadlines"] |= {"connect": 600_000}
            silent.settimeout(60)
            command = direct.Command(pillar, name, phase="flip")
            silent.accept()
            command.process.send_signal(number)
            done = command.wait()
        assert done.problem["kind"] == "interrupted"
    assert direct.run(fresh_chain.pillar(), "status").answer["last_run"] == before


def test_states_of_a_site_are_refused_in_words_while_a_minion_works_for_us(
    master: SaltMaster, tmp_path: Path
) -> None:
    opts = salt.config.master_config(str(master.config / "master"))
    over = tmp_path / "over"
    work = f"while [ ! -e {over} ]; do sleep 0.1; done"
    call = {"function": "state.single", "keywords": {"fun": "cmd.run", "name": work}}
    asked = {"hosts": [MINION], "calls": [call], "seconds": 300}
    question = threading.Thread(target=bridge._ask, args=(opts, asked))
    question.start()
    try:
        while not master.call_minion("saltutil.is_running", "state.*").data:
            assert question.is_alive()
        theirs = master.call_minion("state.single", "test.nop", "name=x")
    finally:
        over.touch()
        question.join()
    assert "is running as PID" in str(theirs.data), theirs


def test_a_minion_that_hangs_is_not_waited_for_and_its_work_is_ended(
    master: SaltMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Salt itself would wait for as long as the minion is at work, and with it every other question."""
    monkeypatch.setattr(bridge, "AT_WORK", 1)
    opts = salt.config.master_config(str(master.config / "master"))
    call = {"function": "test.sleep", "keywords": {"length": 600}}
    asked = {"hosts": [MINION], "calls": [call], "seconds": 1}
    began = time.monotonic()
    assert json.loads(bridge._ask(opts, asked)) == {}
    assert time.monotonic() - began < 60
    while master.call_minion("saltutil.running").data:
        assert time.monotonic() - began < 120
    answer = bridge._ask(
        opts, {**asked, "calls": [{"function": "test.ping", "keywords": {}}], "seconds": 10}
    )
    assert json.loads(answer)[MINION][0]["return"] is True


def test_parallel_steps_fork_and_all_of_them_answer(fresh_chain: Chain, master: SaltMaster) -> None:
    step = "{}:\n  salt.runner:\n    - name: migrate.plan\n{}"
    (master.states / "forks.sls").write_text(
        step.format("before", "")
        + "".join(step.format(f"fork{n}", "    - parallel: True\n") for n in range(3))
    )
    ran = master.run("state.orchestrate", "forks")
    assert ran.rc == 0, ran.stdout
    assert [state["result"] for state in ran.states.values()] == [True] * 4
    assert fresh_chain.serving() is fresh_chain.old


def test_a_second_flip_is_told_who_holds_the_lock(fresh_chain: Chain, master: SaltMaster) -> None:
    slow = fresh_chain.pillar() | {"notice": {**fresh_chain.pillar()["notice"], "drain": 4000}}
    master.set_pillar(slow)
    first = direct.Command(slow, "apply", phase="flip")
    first.until("started", "drained")
    # However long Salt takes to start, the first is still there.
    first.process.send_signal(signal.SIGSTOP)
    try:
        second = master.run("state.orchestrate", "migrate.flip")
    finally:
        first.process.send_signal(signal.SIGCONT)
    assert second.rc == 1
    assert f"process {first.process.pid}" in second.states["flip"]["comment"]
    assert "salt-run migrate.status" in second.states["flip"]["comment"]
    assert first.wait().verdict == "done"
