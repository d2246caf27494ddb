"""The one runner of all cases on loopback: begins anew, sets people to work, breaks, waits, mends, judges."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from tests.chaos import judges
from tests.chaos.case import ABORTED, ENDS, OVER, STOPPED, Break, Case
from tests.chaos.faults import Mend
from tests.chaos.loopback import STATEMENTS
from tests.lab.direct import Done
from tests.lab.mariadb import ServerFailed
from tests.lab.watch import Watch
from tests.lab.writer import Writer

Row = dict[str, Any]
# The statement that waits on the wire, and whether it is the answer that does.
HELD = {
    "fence": ("fence", False),
    "fenced": ("fence", True),
    "promotion": ("promotion", False),
    "promoted": ("promotion", True),
    "deciding": ("decision to go back", False),
    "lifting": ("unfence", False),
    # Everything is staged, and nobody is bothered yet.
    "ready": ("first marker", False),
}


class Attempt:
    """One case in one direction."""

    def __init__(self, bench: Any, case: Case, direction: str) -> None:
        self.bench, self.case, self.direction = bench, case, direction
        self.faults = bench.faults()
        self.mends: list[Mend] = []
        self.missed: list[str] = []
        self._lap = time.monotonic()
        # Seconds, by what they were spent on.
        self.spent: dict[str, float] = {}

    def lap(self, what: str) -> None:
        """Notes what the time since the last such note was spent on."""
        now = time.monotonic()
        self.spent[what], self._lap = round(now - self._lap, 2), now

    def carry(self) -> Row:
        """Runs it to its end and returns its row."""
        began = time.monotonic()
        bench, case = self.bench, self.case
        bench.fresh(self.direction, case.pillar)
        self.lap("beginning")
        people = bench.people()
        watch = Watch(bench.chain, period=0.01, strict=False)
        with contextlib.ExitStack() as mending, bench.writer() as writer:
            mending.enter_context(self.faults.lasting)
            mending.callback(self.mend)
            with people, watch:
                time.sleep(0.3)
                self.lap("people")
                done = self.transfer()
                fence = judges.longest_fence(watch, time.monotonic())
                self.lap("transfer")
                first = self.state(done)
                silent = self.silent(done, first)
                unseen = self.unseen(done)
                self.mend()
                self.lap("mending")
                astray = self.astray()
                after = self.again(done, first)
                astray = self.astray() or astray
                time.sleep(0.2)
                self.lap("again")
        both_open = watch.both_open
        row = self.row(
            began, done, first, after, silent, unseen, astray, fence, both_open, people, writer
        )
        bench.left(bench.sides[1] if row["survived"] and not case.soils else None)
        return row

    # -- what happens -----------------------------------------------------------------------------

    def transfer(self) -> Done:
        """Breaks what comes before, starts the transfer, and breaks the rest as it comes."""
        for one in self.at("before"):
            self.strike(one)
        held = dict.fromkeys(one.at for one in self.case.breaks if one.at.startswith("held:"))
        wires = {}
        for moment in held:
            statement, reply = HELD[moment.partition(":")[2]]
            place, text = STATEMENTS[statement]
            wires[moment] = self.bench.wire(place)
            wires[moment].hold(text, reply=reply)
        run, guard = self.bench.start(self.case.drill)
        self.faults.run = run
        for one in self.case.breaks:
            if one.at.startswith(("started:", "done:", "committed", "aborting")):
                self.when(run, one)
        for moment, wire in wires.items():
            if wire.passed.wait(60):
                for one in self.at(moment):
                    self.strike(one)
            else:
                self.missed.append(moment)
            wire.release()
        done = self.bench.ended(run, guard)
        for one in self.at("after"):
            self.strike(one)
        return done

    def when(self, run: Any, one: Break) -> None:
        """Waits for a line of the run's progress, and breaks."""
        happening, _, step = one.at.partition(":")
        names = dict(zip(("source", "target"), self.bench.sides, strict=True))
        for place, side in names.items():
            step = step.replace(f"{{{place}}}", side)
        try:
            run.until(happening, step or None)
        except AssertionError:
            self.missed.append(one.at)
            return
        self.strike(one)

    def at(self, moment: str) -> list[Break]:
        """Lists what breaks at a moment."""
        return [one for one in self.case.breaks if one.at == moment]

    def strike(self, one: Break) -> None:
        """Breaks one thing, and mends it where it is to be mended soon."""
        mend = self.faults.strike(one.kind, one.told)
        if one.heal is None:
            self.mends.append(mend)
            return
        time.sleep(one.heal)
        mend()

    def mend(self) -> None:
        """Mends whatever is still broken, the last first."""
        while self.mends:
            self.mends.pop()()

    def again(self, done: Done, first: str) -> str:
        """Types the same command again, as every message says, until the transfer is over."""
        said: Done = done
        for _ in range(3):
            said = self.bench.run("apply", phase=self.direction)
            if said.verdict in ("done", "unchanged"):
                break
            time.sleep(1.0)
        else:
            self.faults.notes["again"] = said.problem.get("message", "")[:300]
        return self.state(said)

    # -- what is seen -----------------------------------------------------------------------------

    def state(self, done: Done) -> str:
        """Names where the transfer stands: by its own words, and by what the servers say."""
        source, target = self.bench.sides
        open_ = self.bench.writable()
        if done.verdict in ("done", "unchanged") and f"{source}-db1" not in open_:
            return ENDS[self.direction]
        # One that we ourselves put down takes no writes, whoever says what.
        serves = f"{source}-db1" in open_ or not self.bench.server("source").running
        if done.verdict == "aborted" and f"{target}-db1" not in open_ and serves:
            return ABORTED
        if done.verdict in ("done", "unchanged", "aborted"):
            return f"says {done.verdict}, but {', '.join(open_) or 'nobody'} accepts writes"
        # A refusal, too, says why and what to type; nothing was written then.
        return STOPPED if done.problem.get("message") and done.problem.get("hint") else "silent"

    def settle(self) -> None:
        """Waits until everybody has everything; a replica that locked itself up is let go as the documents say."""
        chain = self.bench.chain
        try:
            chain.settle()
        except ServerFailed as standing:
            if not self.case.leaks:
                raise
            self.faults.notes["let_go_by_hand"] = str(standing)[:200]
            for server in chain.servers.values():
                if server.channels():
                    server.run("STOP SLAVE; START SLAVE")
            chain.settle()

    def silent(self, done: Done, first: str) -> bool:
        """Tells whether nobody accepts writes, and nobody says so."""
        if self.bench.writable() or self.case.unreachable and done.problem:
            return False
        if done.verdict == "done":
            # Whoever was promoted is down by our own hand, and not fenced.
            return False
        alarms = self.bench.run("status").answer["alarms"]
        return not (done.problem.get("hint") and alarms)

    def astray(self) -> bool:
        """Tells whether the CDN serves another side than the databases, and neither run nor status speaks of it."""
        open_ = self.bench.writable()
        if (
            self.case.bench != "loopback"
            or len(open_) != 1
            or self.bench.serves(open_[0].partition("-")[0])
        ):
            return False
        alarms = self.bench.run("status").answer["alarms"]
        self.faults.notes["astray"] = [alarm for alarm in alarms if "edge" in alarm]
        return not self.faults.notes["astray"]

    def unseen(self, done: Done) -> list[str]:
        """Names what one server alone has, and that neither the run nor the status speaks of."""
        if not self.case.leaks:
            return []
        alone = judges.alone(self.bench.chain)
        said = " ".join([
            done.problem.get("message", ""),
            *(finding["found"] for finding in (done.answer or {}).get("findings", [])),
            *self.bench.run("status").answer["alarms"],
        ])  # fmt: skip
        self.faults.notes["alone"] = alone
        quiet = [gtid for name, gtid in alone if f"{name}: somebody wrote on it" not in said]
        return [gtid for gtid in quiet if gtid not in said]

    def row(
        self, began: float, done: Done, first: str, after: str, silent: bool, unseen: list[str], astray: bool,
        fence: float, both_open: int, people: Any, writer: Writer,
    ) -> Row:  # fmt: skip
        """Gathers the judges' verdicts."""
        case, chain, results = self.case, self.bench.chain, writer.stop()
        problems = [f"{moment} never came" for moment in self.missed]
        agree = False
        try:
            self.settle()
            agree = len(set(chain.checksums().values())) == 1
            here, there = judges.lost(chain, results), people.lost(chain)
            seen = {word: count + there[word] for word, count in here.items()}
        except (ServerFailed, AssertionError) as error:
            problems.append(f"the chain does not come together: {error}"[:200])
            seen = {"acknowledged": len(results.acknowledged), "lost": -1, "duplicated": 0}
        # One change of sides for this transfer, and none but that.
        turns = max(0, judges.turns(chain, results.run) - 1)
        clashes = [] if case.leaks else judges.clashes(chain)
        two = bool(turns or clashes or both_open)
        # As long as the target cannot be reached the fence stays; behind that the same deadline holds.
        apart = [one.heal for one in case.breaks] if case.unreachable else [0.0]
        bound = self.bench.DEADLINES["window"] + self.bench.SLACK_MS
        judged = None not in apart
        overrun = judged and fence > bound + 1000 * sum(apart)
        if not judged:
            seen["fence_not_judged"] = "its target came back with the mending, behind the run"
        seen |= {"longest_fence_ms": fence, "people": people.seen} | self.faults.notes
        allowed = {ENDS[self.direction] if word == OVER else word for word in case.ends}
        if first not in allowed:
            problems.append(f"it ended as {first}")
        if done.problem.get("kind") == "defect":
            problems.append("a defect of the tool")
        if self.faults.notes.get("second", "held") != "held":
            problems.append(f"a second run was not kept out: {self.faults.notes['second']}")
        if after != ENDS[self.direction]:
            problems.append(f"the same command again left it {after}")
        if not agree and not case.leaks:
            problems.append("the servers differ")
        for who in ("reader", "editor"):
            if people.seen[f"{who}_errors"] and f"{who}s" not in case.harms:
                problems.append(f"{people.seen[f'{who}_errors']} errors of {who}s")
        problems += (
            [f"two primaries: {turns} turns, {clashes[:3]}, {both_open} looks"] if two else []
        )
        problems += [f"fenced for {fence} ms"] if overrun else []
        problems += ["fenced in silence"] if silent else []
        problems += (
            ["the CDN sends people to the side that is closed, and nobody says so"]
            if astray
            else []
        )
        problems += [f"nobody speaks of {', '.join(unseen)}"] if unseen else []
        problems += [f"{seen[word]} {word}" for word in ("lost", "duplicated") if seen[word]]
        self.lap("judging")
        return {
            "name": case.name,
            "direction": self.direction,
            "bench": case.bench,
            "seen": seen,
            "state": first,
            "refused": done.problem.get("kind") == "refused",
            "says": done.problem.get("message", ""),
            "type_next": done.problem.get("hint", ""),
            "after_mending": after,
            "two_primaries": two,
            "fence_overrun": overrun,
            "seconds": round(time.monotonic() - began, 1),
            "spent": self.spent,
            "problems": problems,
            "survived": not problems,
        }


def carry(bench: Any, case: Case, direction: str) -> Row:
    """Runs a case; what breaks in the bench itself is a problem of the row, and no end of the matrix."""
    attempt, began = Attempt(bench, case, direction), time.monotonic()
    try:
        return attempt.carry()
    except Exception as error:
        with contextlib.suppress(Exception):
            attempt.mend()
        return {
            "name": case.name, "direction": direction, "bench": case.bench, "seen": {}, "state": "unknown",
            "two_primaries": False, "fence_overrun": False, "survived": False,
            "problems": [f"{type(error).__name__}: {error}"[:2000]], "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip
