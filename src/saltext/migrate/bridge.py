"""
The bridge between Salt and the engine: settings in, questions to minions, progress out.

It decides nothing. Every failure leaves here as ``CommandExecutionError`` with a clean message; a ``TypeError`` must
never leave, for Salt's runner steps take one for success.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import salt.client
import salt.config
import salt.utils.event
from salt.exceptions import CommandExecutionError

from saltext.migrate import _native, newcomer
from saltext.migrate.guard import Guard, watching

log = logging.getLogger(__name__)

Dunders = dict[str, Any]

# The phases that keep writers out for a while, so that somebody has to watch.
FENCING = ("flip", "revert")

# Kinds of problems behind which a source may still be fenced: the guard looks again.
UNSETTLED = ("undecided", "not-undone")

# Seconds within which a minion gives a sign of life before work that may take as long as LONG, or longer.
PATIENCE = 10
LONG = 600

# Seconds more for a minion that is still at work on anything shorter, but for states, which may wait for others and
# must not be cut in the middle. Salt would wait for as long as it is, and one that hangs would hold up every other
# question.
AT_WORK = 30

# The signals by which somebody asks for the end.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Commands whose first argument is a target, for searches that must tell a target from an address.
TARGETING = ["salt", "salt-ssh", "salt-cp", "salt-key"]


def given(pillar: Dunders | None) -> Dunders | None:
    """Take a pillar that was given by hand: whole, or the value of its key ``migrate`` alone."""
    if not pillar or "migrate" in pillar:
        return pillar
    return {"migrate": pillar}


def call(
    command: str,
    arguments: dict[str, Any],
    *,
    opts: Dunders,
    pillar: Dunders,
    functions: Dunders,
) -> Any:
    """
    Run one command of the engine and return its data.

    command
        A name from the engine's table of commands, for example ``plan``.
    arguments
        What the command takes, as plain data without secrets.
    opts, pillar, functions
        The caller's ``__opts__``, ``__pillar__`` and ``__salt__``.

    Raises ``CommandExecutionError`` with where, what was found, what was expected and what to type next.
    """
    try:
        # Salt's JSON of an ordered pillar may hold dates and the like; they are texts to the settings.
        settings = json.dumps(_settings(opts, pillar, functions), default=str)
        with _guarded(command, arguments, settings, opts) as guard:
            done = run(command, arguments, settings, opts, guard, functions=functions)
            if guard:
                guard.stays = (done["error"] or {}).get("kind") in UNSETTLED
            return done
    except CommandExecutionError:
        raise
    except _native.MigrateError as error:
        message, _kind, hint = error.args
        raise CommandExecutionError(f"{message}\nhint: {hint}") from None
    except BaseException as error:
        # Salt lets a SystemExit or a panic end a whole orchestration without a word.
        log.debug("migrate.%s failed", command, exc_info=True)
        raise CommandExecutionError(f"{command}: {type(error).__name__}: {error}") from None


def failure(done: dict[str, Any]) -> str:
    """Say how a run that failed ended, what it left, and what to type."""
    problem, left = done["error"], ", ".join(entry["step"] for entry in done["left"])
    more = f"\nleft as it is: {left}; the same command goes on from there" if left else ""
    return f"{done['verdict']}: {problem['message']}{more}\nhint: {problem['hint']}"


def run(
    command: str,
    arguments: dict[str, Any],
    settings: str,
    opts: Dunders,
    guard: Guard | None = None,
    announce: Callable[[dict[str, Any]], None] | None = None,
    functions: Dunders | None = None,
) -> Any:
    """
    Run one command on settings that are resolved already.

    ``guard`` is who must be ready before anything is fenced; ``announce`` is told every event too;
    ``functions`` are the master's own, which compile pillars.
    """

    def ask(question: str) -> str:
        asked = json.loads(question)
        if asked["ask"] == "guard":
            return json.dumps(guard is not None and guard.wait())
        if asked["ask"] == "pillar":
            return json.dumps(_pillars(functions or {}, asked["hosts"]), default=str)
        if asked["ask"] in ("user-data", "known", "accepted", "revoke"):
            folder = json.loads(settings).get("state_dir", "/var/lib/saltext-migrate")
            return json.dumps(newcomer.answer(opts, Path(folder), asked))
        if asked["ask"] == "heard":
            return json.dumps(_heard(opts, asked))
        return _ask(opts, asked)

    # Salt's client prints a line for people where no minion has a name; whoever reads data would stumble over it.
    with (
        _signals() as interrupted,
        _progress(opts, announce) as tell,
        contextlib.redirect_stdout(sys.stderr),
    ):
        done = _native.run(command, settings, json.dumps(arguments), ask, tell, interrupted)
        return json.loads(done)


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """
    Tell whether Ctrl-C or SIGTERM came, or the terminal went away, instead of having it break into whatever goes on.

    Salt's own handlers raise, and its loader takes that for a module that is broken: nobody would hear of the signal.
    And people press Ctrl-C again, which would end the question to minions by which something is taken back.
    """
    heard = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: heard
        return
    # Who ignores one, or dies of it, goes on so; nobody means to die of a lost connection.
    found = {number: signal.getsignal(number) for number in _ENDING}
    before = {
        number: handler
        for number, handler in found.items()
        if callable(handler) or (number == signal.SIGHUP and handler == signal.SIG_DFL)
    }

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        if heard:
            # Not by print, which may be what it came into; and to a terminal that may be gone.
            with contextlib.suppress(OSError):
                os.write(
                    2, b"interrupted already: what was begun is taken back, or finished; wait\n"
                )
        heard = True

    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _guarded(
    command: str, arguments: dict[str, Any], settings: str, opts: Dunders
) -> Iterator[Guard | None]:
    """Have a guard for whatever may fence something."""
    # Who goes back without the new primary fences nobody, and a guard would ask it.
    if command != "apply" or arguments["phase"] not in FENCING or arguments.get("accept_loss"):
        yield None
        return
    arguments["guarded"] = True
    with watching(arguments["phase"], settings, opts) as guard:
        yield guard


def _settings(opts: Dunders, pillar: Dunders, functions: Dunders) -> Any:
    """Find the pillar key ``migrate``; a direct ``salt-run`` has no pillar, so it is compiled here."""
    found = pillar.get("migrate") if pillar else None
    if found is None:
        found = _compiled(opts, functions)
    return _resolved(found, opts)


def _compiled(opts: Dunders, functions: Dunders) -> Any:
    # Not asked where nothing is missing: to find that there is no such function Salt loads all modules that it has.
    show = functions.get("pillar.show_pillar")
    if show is None and opts.get("__role") == "master" and "saltutil.runner" in functions:
        # An execution module that a runner called, by `salt-run salt.cmd`.
        show = functools.partial(_by_runner, functions["saltutil.runner"])
    if show is None:
        return None
    compiled = show(opts["id"])
    if compiled.get("_errors"):
        raise CommandExecutionError(
            "the pillar does not render: "
            + "; ".join(map(str, compiled["_errors"]))
            + f"\nhint: salt-run pillar.show_pillar {opts['id']}"
        )
    return compiled.get("migrate")


def _by_runner(runner: Callable[..., Any], minion: str) -> Any:
    return runner("pillar.show_pillar", arg=[minion])


def _resolved(value: Any, opts: Dunders) -> Any:
    """Replace every ``sdb://`` reference by what it refers to."""
    if isinstance(value, dict):
        return {str(key): _resolved(inner, opts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, opts) for inner in value]
    if isinstance(value, str) and value.startswith("sdb://"):
        import salt.utils.sdb  # noqa: PLC0415  (the loader is only built where a reference is)

        secret = salt.utils.sdb.sdb_get(value, opts)
        if secret is None or secret == value:
            raise CommandExecutionError(
                f"{value} refers to nothing\nhint: salt-run sdb.get {value}"
            )
        return secret
    return value


def _pillars(functions: Dunders, hosts: list[str]) -> Dunders:
    """Compile the pillar of each minion here, on the master; through a job it would stay in the job cache."""
    if "pillar.show_pillar" not in functions:
        raise CommandExecutionError(
            "pillars are compiled on the master\nhint: salt-run migrate.addresses"
        )
    pillars = {host: functions["pillar.show_pillar"](host) for host in hosts}
    for host, pillar in pillars.items():
        if pillar.get("_errors"):
            problems = "; ".join(map(str, pillar["_errors"]))
            raise CommandExecutionError(f"the pillar of {host} does not render: {problems}")
    return pillars


def _ask(opts: Dunders, asked: dict[str, Any]) -> str:
    """Answer one question of the engine: call functions on minions in one job, and tell what each returned."""
    functions = [call["function"] for call in asked["calls"]]
    if len(set(functions)) < len(functions):
        raise CommandExecutionError(f"a minion answers by name, and one stands twice: {functions}")
    with contextlib.closing(_Client(opts)) as client:
        hosts = asked["hosts"]
        if asked["seconds"] >= LONG:
            # How long work may take is also how long Salt waits for a minion that is not there.
            pinged = client.local.cmd(hosts, "test.ping", timeout=PATIENCE, tgt_type="list")
            hosts = [host for host in hosts if pinged.get(host) is True]
        if not hosts:
            return "{}"
        arguments = [[{"__kwarg__": True, **call["keywords"]}] for call in asked["calls"]]
        # While a job of several functions runs, whoever applies states on the minion is told that a list is no text.
        alone = len(functions) == 1
        job = {
            "fun": functions[0] if alone else functions,
            "arg": arguments[0] if alone else arguments,
        }
        answers = _answers(client.local, hosts, job, asked["seconds"])
    said = {host: _said(answer, functions) for host, answer in answers.items()}
    return json.dumps(said, default=str)


def _answers(local: Any, hosts: list[str], job: dict[str, Any], seconds: int) -> Dunders:
    """Run one job, and collect what each minion returned; whoever does not, or is at work for too long, is left out."""
    who = {"tgt": hosts, "tgt_type": "list", "timeout": seconds}
    published = local.run_job(listen=True, **who, **job)
    if not published:
        return {}
    answers: Dunders = {}
    ends = time.monotonic() + seconds + AT_WORK
    functions = [job["fun"]] if isinstance(job["fun"], str) else job["fun"]
    short = seconds < LONG and not any(name.startswith("state.") for name in functions)
    returns = local.get_iter_returns(published["jid"], published["minions"], block=False, **who)
    for returned in returns:
        if returned:
            # Of one that is unknown, or did not return, Salt says so in an entry without a return.
            answers.update({host: told for host, told in returned.items() if "ret" in told})
        elif short and time.monotonic() > ends:
            # What nobody waits for should not come true later; where that cannot be asked for, there are the answers.
            silent = [host for host in hosts if host not in answers]
            with contextlib.suppress(Exception):
                local.run_job(
                    silent, "saltutil.kill_job", [published["jid"]], tgt_type="list", timeout=5
                )
            break
        else:
            # As Salt's own client, which is asked here not to wait by itself.
            time.sleep(0.01)
    return answers


def _heard(opts: Dunders, asked: dict[str, Any]) -> list[str]:
    """Name the minions that answer the master on a host, when it asks them itself."""
    minions, seconds = ",".join(asked["hosts"]), asked["seconds"]
    command = f"{asked['command'] or 'salt'} --list {shlex.quote(minions)} --timeout={seconds}"
    command += " --static --out=json test.ping"
    keywords = {"cmd": command, "ignore_retcode": True, "python_shell": False}
    # Its own patience, once more for those that it looks for, and its start.
    call = {"function": "cmd.run_stdout", "keywords": keywords}
    question = {"hosts": [asked["by"]], "calls": [call], "seconds": 4 * seconds + 10}
    said = json.loads(_ask(opts, question)).get(asked["by"])
    try:
        answers = json.loads(said[0]["return"]) if said else {}
    except (TypeError, ValueError):
        # It does not run, or has nobody to ask.
        return []
    return [name for name, answer in answers.items() if answer is True]


def _said(answer: dict[str, Any], functions: list[str]) -> list[dict[str, Any]]:
    """Tell, call by call, what a minion returned and whether it refused."""
    returned, codes = answer.get("ret"), answer.get("retcode")
    if len(functions) == 1:
        return [{"return": returned, "retcode": codes}]
    if not isinstance(returned, dict) or not isinstance(codes, dict):
        # The job as a whole was refused, for example because the minion is shutting down.
        return [{"return": returned, "retcode": 1} for _ in functions]
    # A function that raised has no code.
    return [{"return": returned.get(name), "retcode": codes.get(name, 1)} for name in functions]


class _Client:
    """A client of the minions that is closed whatever the Salt version calls it."""

    def __init__(self, opts: Dunders) -> None:
        self.local = salt.client.get_local_client(c_path=opts["conf_file"])

    def close(self) -> None:
        for name in ("destroy", "close"):
            if hasattr(self.local, name):
                getattr(self.local, name)()
                return


@contextlib.contextmanager
def _progress(
    opts: Dunders, announce: Callable[[dict[str, Any]], None] | None
) -> Iterator[Callable[[str], None]]:
    """Show each event as a line on stderr (stdout stays clean for data), and put it on the master's bus."""
    bus = None
    with contextlib.suppress(Exception):
        bus = salt.utils.event.get_event(
            "master", sock_dir=opts["sock_dir"], opts=opts, listen=False
        )

    def tell(text: str) -> None:
        event = json.loads(text)
        # A listener that is gone must not end what it listened to.
        with contextlib.suppress(OSError):
            print(_line(event), file=sys.stderr, flush=True)
        if announce is not None:
            announce(event)
        if bus is not None:
            with contextlib.suppress(Exception):
                bus.fire_event(event, f"migrate/{event['run']}/{event['happening']}", timeout=200)

    try:
        yield tell
    finally:
        if bus is not None:
            with contextlib.suppress(Exception):
                bus.destroy()


def _line(event: dict[str, Any]) -> str:
    took = event.get("milliseconds")
    parts = [event["run"] or event["phase"], f"{event['happening']:<10}", event.get("step") or ""]
    if took is not None:
        parts.append(f"{took:.1f} ms")
    if event["happening"] in ("failed", "aborting", "warning", "kept") and event.get("detail"):
        parts.append(str(event["detail"]))
    if event["happening"] == "finished":
        detail = event["detail"]
        parts.append(f"{detail['verdict']}{': ' + detail['error'] if detail['error'] else ''}")
    return "  ".join(part for part in parts if part)
