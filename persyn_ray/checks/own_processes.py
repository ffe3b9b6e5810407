"""A quality of one's own in processes that can be killed: rows in, verdicts out.

A call that takes longer than its limit is ended with its process, and so is one that kills its
process; the next call starts another. See `own_worker` for the other side.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from persyn_ray.checks.own_function import (
    CRASHED,
    TIMED_OUT,
    CallFailed,
    QualityRow,
    Scored,
    row_by_row,
    stretches,
)
from persyn_ray.checks.verifier import START_SECONDS, Verdict
from persyn_ray.checks.worker_pool import WorkerPool
from persyn_ray.errors import ConfigError, StepError


class OwnProcesses:
    """Some processes that share the calls of one function.

    Args:
        timeout_seconds: wall-clock limit of one call; None for none.
    """

    def __init__(
        self,
        reference: str,
        source: str | None,
        settings: Mapping[str, Any],
        num_processes: int,
        timeout_seconds: float | None,
    ) -> None:
        self._settings, self._limit = dict(settings), timeout_seconds
        self._workers = WorkerPool([_Process(reference, source) for _ in range(num_processes)])

    def __call__(self, rows: Sequence[QualityRow], at_once: int) -> list[Scored]:
        """Verdicts of rows, in order, of which so many go into one call.

        Raises:
            ConfigError: the function cannot be loaded.
            StepError: no process can be started.
        """
        parts = list(stretches(rows, at_once))
        found = self._workers.map(lambda part: row_by_row(self._call, part), parts)
        return [scored for part in found for scored in part]

    def close(self) -> None:
        """End all processes; a further call starts them anew."""
        self._workers.close()

    def _call(self, rows: Sequence[QualityRow]) -> list[Scored]:
        with self._workers.lend() as worker:
            reply = worker.ask({"rows": rows, "settings": self._settings}, self._limit)
        if "failed" in reply:
            raise CallFailed(*reply["failed"])
        return [(Verdict(outcome, value), why) for outcome, value, why in reply["scored"]]


class _Process:
    """One process and the connection to it."""

    def __init__(self, reference: str, source: str | None) -> None:
        self._arguments = [reference, source or "", str(os.getpid())]
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def ask(self, request: Mapping[str, Any], limit: float | None) -> dict[str, Any]:
        """The reply to a request.

        Raises:
            CallFailed: it came too late, or the process died.
        """
        connection = self._connection or self._start()
        try:
            connection.send_bytes(json.dumps(request).encode())
            if connection.poll(limit):
                return json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            self.stop()
            raise CallFailed(CRASHED, "the function's process died") from None
        self.stop()
        raise CallFailed(TIMED_OUT, f"took more than {limit:g} s")

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        self._connection, descriptor = ours, theirs.fileno()
        command = [sys.executable, "-m", "persyn_ray.checks.own_worker", str(descriptor)]
        # The parent's import path, as Ray and virtual environments have shaped it.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            # A session of its own keeps Ctrl-C, meant for the run, away from the process.
            try:
                self._process = subprocess.Popen(
                    command + self._arguments,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
            except OSError as error:  # no memory or no processes left
                self.stop()
                raise StepError(f"No process for a quality can be started: {error}") from error
        self._require_ready(ours)
        return ours

    def _require_ready(self, connection: Connection) -> None:
        try:
            is_there = connection.poll(START_SECONDS)
            said = json.loads(connection.recv_bytes()) if is_there else None
        except (EOFError, OSError):
            said = None
        if said is None or "refused" in said:
            self.stop()
            if said is None:
                raise StepError(f"The process for {self._arguments[0]!r} did not start.")
            raise ConfigError(said["refused"])
