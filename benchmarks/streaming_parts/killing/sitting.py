"""One sitting: a cluster, runs of collect and synthesize on it, and kills at seeded moments.

    python -m streaming_parts.killing.sitting FOLDER KILLS SEED [ROWS]

Prints what it counted as one JSON line. ROWS is how many are asked for each kill that is planned.
A run goes on until its rows are done; kills that are left over then meet the next run.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from persyn_ray.storage.processes import is_running
from streaming_parts.killing import count
from streaming_parts.killing.machines import Drivers, Machines, children, engine_of
from streaming_parts.killing.made_run import SPLITS, TEACHERS, made_run

KINDS = ("driver", "actor", "engine", "raylet")
ROWS = 320
MOST_RUNS, MOST_FAILURES = 6, 3
SILENT_SECONDS = 90.0
"""Without a new line in any log, or a new part, after which a run counts as hanging."""
PAUSE_SECONDS = 4.0
"""Longest pause between the first new row after a kill and the next kill."""
BLIND_SECONDS = 10.0
"""Longest pause before a kill that does not wait for a new row, and so meets drivers that start."""


@dataclass
class Kill:
    """One of them, and what it met."""

    kind: str
    of: str
    pids: list[int]
    actors: list[int]
    """Pool actors that end with it."""
    meets: Callable[[count.Engine], bool]
    """Which engines end with it."""
    node: Any = None
    """The node that is lost."""
    at: float = 0.0
    engines: list[int] = field(default_factory=list)
    flight: count.Flight = field(default_factory=count.Flight)
    gone_after: float = 0.0
    working_after: float | None = None
    """Seconds until an engine that it had not met began a row."""

    def facts(self) -> dict[str, Any]:
        """What the result says of it."""
        return {
            "kind": self.kind,
            "of": self.of,
            "engines": len(self.engines),
            "running": len(self.flight.running),
            "unwritten": len(self.flight.unwritten),
            "gone_after": round(self.gone_after, 2),
            "working_after": self.working_after and round(self.working_after, 2),
        }


@dataclass
class RunUnderKills:
    """One run of a step; `kinds` are the kills that wait, of which it takes what it can."""

    machines: Machines
    drivers: Drivers
    folder: Path
    step: str
    num_prompts: int
    seed: int
    draws: random.Random
    kills: list[Kill] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What drivers said that ended with an error."""
    driver: int = 0

    def carry_out(self, kinds: list[str]) -> dict[str, Any]:
        """The run from its first driver to its end; what was lost, doubled and done again."""
        recipe, wanted = made_run(self.folder, self.step, self.num_prompts, self.seed)
        self.recipe, self.logs, split = recipe, self.folder / "logs", SPLITS[self.step]
        began = time.monotonic()
        self.driver = self.drivers.start(self.step, self.folder)
        while kinds and self._waits_for_its_moment() and self._kill(kinds[0]):
            kinds.pop(0)
        self._until(self._ended)
        log = count.noted(self.logs)
        for kill in self.kills:
            kill.working_after = worked_after(kill, log)
        flights = [kill.flight for kill in self.kills]
        found = count.rework(log, flights) | count.responses(recipe, split, wanted)
        if self.step == "collect":
            found |= count.scores(recipe, split)
        return {
            "step": self.step,
            "seconds": round(time.monotonic() - began, 1),
            "failures": self.failures,
            "kills": [kill.facts() for kill in self.kills],
            **found,
        }

    def _ended(self) -> bool:
        """Whether a driver has done all; one that failed is followed by another, as users would."""
        status = self.drivers.status(self.driver)
        if status in ("0", "runs"):
            return status == "0"
        self.failures.append(f"status {status}: {self._said()}")
        if len(self.failures) > MOST_FAILURES:
            raise RuntimeError(f"drivers of {self.step} keep failing: {self.failures[-1]}")
        self.driver = self.drivers.start(self.step, self.folder)
        return False

    def _waits_for_its_moment(self) -> bool:
        """Pause for a seeded time; False where the run ended meanwhile."""
        if self.draws.random() < 0.25:
            pause = self.draws.uniform(0, BLIND_SECONDS)
        else:
            pause = self.draws.uniform(0, PAUSE_SECONDS)
            self._until(lambda: self._works_again() or self._ended())
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline and not self._ended():
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        return not self._ended()

    def _works_again(self) -> bool:
        """Whether an engine that the last kill did not meet has begun a row since."""
        log = count.noted(self.logs)
        return bool(log) if not self.kills else worked_after(self.kills[-1], log) is not None

    def _kill(self, kind: str) -> bool:
        """Kill one of a kind, and look at what it left; False where the run ended before."""
        kill = getattr(self, f"_{kind}")()
        if kill is None:
            return False
        before = {engine for other in self.kills for engine in other.engines}
        kill.at = time.time()
        end(kill.pids)
        self.kills.append(kill)
        if kind == "driver":
            while self.drivers.status(self.driver) == "runs":
                time.sleep(0.01)
            self.driver = self.drivers.start(self.step, self.folder)
        if kill.node is not None:
            self.machines.replace(kill.node)

        def is_over() -> bool:
            met = [one.pid for one in count.engines(self.logs) if kill.meets(one)]
            kill.engines = [pid for pid in met if pid not in before]
            return not any(map(is_running, [*kill.actors, *kill.engines]))

        self._until(is_over)
        kill.gone_after = time.time() - kill.at
        on_disk = count.stored(self.recipe, SPLITS[self.step])
        kill.flight = count.in_flight(count.noted(self.logs), kill.engines, on_disk)
        print(f"  {self.step}: {kill.facts()}", file=sys.stderr, flush=True)
        return True

    def _actors(self) -> list[psutil.Process]:
        return [one for node in self.machines.nodes for one in self.machines.actors(node)]

    def _driver(self) -> Kill:
        driver, actors = self.driver, [one.pid for one in self._actors()]
        return Kill("driver", "driver", [driver], actors, lambda one: one.driver == driver)

    def _actor(self) -> Kill | None:
        self._until(lambda: self._actors() or self._ended())
        actors = sorted(self._actors(), key=lambda one: one.pid)
        if not actors:
            return None
        chosen = self.draws.choice(actors)
        of = "scorer or an actor that loads" if engine_of(chosen) is None else "teacher"
        pid = chosen.pid
        return Kill("actor", of, [pid], [pid], lambda one: one.actor == pid)

    def _engine(self) -> Kill | None:
        self._until(lambda: self._engines() or self._ended())
        engines = self._engines()
        if not engines:
            return None
        chosen, actor = self.draws.choice(engines)
        return Kill("engine", "teacher", [chosen], [actor], lambda one: one.pid == chosen)

    def _engines(self) -> list[tuple[int, int]]:
        """Engines that are there, with their actors."""
        found = [(engine_of(actor), actor.pid) for actor in self._actors()]
        return sorted((engine.pid, actor) for engine, actor in found if engine is not None)

    def _raylet(self) -> Kill:
        """A node: its raylet alone, which the others follow by themselves, or all at once."""
        node = self.draws.choice(self.machines.nodes)
        is_alone = self.draws.random() < 0.5
        actors = [one.pid for one in self.machines.actors(node)]
        raylet = self.machines.raylet(node).pid
        pids = [raylet] if is_alone else [raylet, *actors]
        of = "raylet alone" if is_alone else "raylet and its actors"
        return Kill("raylet", of, pids, actors, lambda one: one.actor in actors, node)

    def _until(self, what: Callable[[], Any]) -> Any:
        """What is waited for.

        Raises:
            TimeoutError: nothing happens in the run any more.
        """
        seen, since = self._growth(), time.monotonic()
        while not (found := what()):
            if time.monotonic() - since > SILENT_SECONDS:
                if (now := self._growth()) == seen:
                    raise TimeoutError(f"{self.step} hangs: {self._said()}")
                seen, since = now, time.monotonic()
            time.sleep(0.1)
        return found

    def _growth(self) -> tuple[int, int]:
        """What changes while anything is done: logs of engines, and tables."""
        logs = sum(path.stat().st_size for path in self.logs.glob("*.jsonl"))
        return logs, hash(tuple(sorted((self.folder / "run" / "tables").rglob("*.parquet"))))

    def _said(self) -> str:
        """The end of what drivers have said."""
        return (self.folder / "driver.log").read_text(encoding="utf-8")[-2000:]


def worked_after(kill: Kill, log: list[count.Noted]) -> float | None:
    """Seconds from a kill until an engine that it did not meet began a row; None where none did."""
    met = set(kill.engines)
    begun = (one.at for one in log if one.is_begin and one.at > kill.at and one.engine not in met)
    first = next(begun, None)
    return None if first is None else first - kill.at


def end(pids: Iterable[int]) -> None:
    """kill -9."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kinds_of(num_kills: int, seed: int) -> list[str]:
    """As many kinds of kills, each as often as the others over sittings of neighbouring seeds."""
    start = seed * num_kills
    kinds = [KINDS[(start + number) % len(KINDS)] for number in range(num_kills)]
    random.Random(seed).shuffle(kinds)
    return kinds


def sitting(machines: Machines, folder: Path, num_kills: int, seed: int, rows: int) -> list[Any]:
    """Runs of both steps in turn, until the kills are done; each with half of them in mind."""
    drivers = Drivers(str(machines.cluster.address))
    kinds, draws, runs = kinds_of(num_kills, seed), random.Random(seed), list[Any]()
    try:
        while kinds and len(runs) < MOST_RUNS:
            step = ("collect", "synthesize")[(len(runs) + seed) % 2]
            planned = max(1, min(len(kinds), round(num_kills / 2)))
            prompts = planned * rows // (len(TEACHERS) if step == "collect" else 1)
            place = folder / f"{len(runs)}-{step}"
            mine, later = kinds[:planned], kinds[planned:]
            under = RunUnderKills(
                machines, drivers, place, step, prompts, seed * MOST_RUNS + len(runs), draws
            )
            runs.append(under.carry_out(mine))
            kinds = mine + later
        return runs
    finally:
        drivers.close()


def main() -> None:
    """See the top."""
    folder, num_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rows = int(sys.argv[4]) if len(sys.argv) > 4 else ROWS
    machines = Machines()
    try:
        print(json.dumps(sitting(machines, folder, num_kills, seed, rows)))
    finally:
        left = [one for node in machines.nodes for one in children(machines.raylet(node))]
        machines.close()
        psutil.wait_procs(left, timeout=20)


if __name__ == "__main__":
    main()
