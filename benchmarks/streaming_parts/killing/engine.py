"""A simulated streaming engine with a process of its own, and step collect or synthesize with it.

A simulation of the engine alone: like vLLM's core its process lives below the actor, works on the
rows of all calls at once, and ends with the actor; where it ends first, the actor is told by
`EngineDead`. It only waits (`engine_process.py`) and keeps a side log of what it began and ended.
"""

import hashlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from persyn_ray.engines.base import Completion, Done, Occupancy, Request
from persyn_ray.errors import EngineDead
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.collect import Collect
from persyn_ray.shards.part_writer import PartWriter
from persyn_ray.stages import generate
from persyn_ray.stages.generate import Generate
from streaming_parts.all_at_once import AllAtOnce
from streaming_parts.simulated_engine import Lengths

PROGRAM = Path(__file__).with_name("engine_process.py")


@dataclass(frozen=True)
class Simulation:
    """What the engines of a run are like, and where their logs lie."""

    logs: str
    driver: int
    """Pid of the driver that wants them."""
    slots: int = 8
    token_seconds: float = 0.02
    lengths: Lengths = field(default_factory=lambda: Lengths(3.3, 0.75, 2, 300))


@dataclass
class _Call:
    """Rows of one caller."""

    requests: Sequence[Request]
    done: Done
    left: int
    ended: threading.Event = field(default_factory=threading.Event)


class ProcessEngine(AllAtOnce):
    """One engine behind the interface of streaming engines."""

    def __init__(self, simulation: Simulation, teacher: str) -> None:
        self.simulation, self.teacher = simulation, teacher
        self.lock = threading.Lock()
        self.rows: dict[str, tuple[_Call, int]] = {}
        self.numbers = itertools.count()
        self.is_dead = False
        log = f"{simulation.logs}/{teacher}.{simulation.driver}.{os.getpid()}"
        command = [sys.executable, "-S", str(PROGRAM), log]
        self.process = subprocess.Popen(
            [*command, str(simulation.slots)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._read, daemon=True).start()

    def stream(self, requests: Sequence[Request], done: Done) -> None:
        """All requests at once; each ends by itself.

        Raises:
            EngineDead: the process has ended.
        """
        call = _Call(requests, done, len(requests))
        with self.lock:
            lines = [self._line(call, place) for place in range(len(requests))]
            self._send("".join(lines).encode())
        call.ended.wait()
        if call.left:
            raise EngineDead(f"the simulated engine of {self.teacher} has lost its process")

    def take_occupancy(self) -> Occupancy:
        """Nothing is measured here."""
        return Occupancy()

    def close(self) -> None:
        """End the process."""
        self.process.kill()

    def _line(self, call: _Call, place: int) -> str:
        number, prompt_id = str(next(self.numbers)), call.requests[place].prompt_id
        self.rows[number] = (call, place)
        seconds = self._tokens(prompt_id) * self.simulation.token_seconds
        return f"{number} {prompt_id} {seconds:.4f}\n"

    def _tokens(self, prompt_id: str) -> int:
        return self.simulation.lengths.of(f"{self.teacher} {prompt_id}")

    def _send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError:
            self.is_dead = True
        if self.is_dead:
            self._fail_all()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.lock:
                call, place = self.rows.pop(line.decode().strip())
                call.done(place, self._completion(call.requests[place].prompt_id))
                call.left -= 1
            if not call.left:
                call.ended.set()
        with self.lock:
            self.is_dead = True
            self._fail_all()

    def _fail_all(self) -> None:
        for call, _ in self.rows.values():
            call.ended.set()

    def _completion(self, prompt_id: str) -> Completion:
        """Words that no other process would say: a row that is done twice is another response."""
        name = f"{self.teacher} {prompt_id} {self.process.pid}"
        words = hashlib.sha256(name.encode()).hexdigest()[:24]
        return Completion(f"{words} #{prompt_id[-2:]}", "stop", 20, self._tokens(prompt_id))


class SimulatedCollect(Collect):
    """Steps collect and synthesize, with a simulated engine where a teacher's would be built."""

    def __init__(self, simulation: Simulation, recipe: Recipe, *arguments: Any) -> None:
        super().__init__(recipe, *arguments)
        self.simulation = simulation
        self.starting = threading.Lock()

    def _parts_of(self, teacher: TeacherConfig) -> tuple[Generate, PartWriter, PartWriter]:
        with self.starting, patch.object(generate, "build_engine", self._engine):
            return super()._parts_of(teacher)

    def _engine(self, teacher: TeacherConfig, *_: Any) -> ProcessEngine:
        return ProcessEngine(self.simulation, teacher.name)
