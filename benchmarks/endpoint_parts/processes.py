"""Processes of the benchmark: each has a time limit, and is ended by its id."""

import json
import os
import queue
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from publishing import ROOT

from persyn_ray.runtime.serve_command import FAST_INGRESS, INGRESS

BENCHMARKS = ROOT / "benchmarks"
HAPROXY = INGRESS | FAST_INGRESS  # as `persyn serve` sets them
PATIENCE = {
    # A proxy that is not up in 5 s is killed and started anew, which takes longer still.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
}
START_SECONDS, STOP_SECONDS = 480.0, 60.0
TRIES = 3
KINDS = {
    "replica": re.compile(r"ray::.*router[:#](Router|PlainRouter)\b"),
    "tally": re.compile(r"ray::.*router[:#]MetricsActor\b"),
    "proxy": re.compile(r"ray::.*(ProxyActor|HAProxyManager|SERVE_PROXY_ACTOR)"),
    "controller": re.compile(r"ray::.*(ServeController|SERVE_CONTROLLER_ACTOR)"),
    "haproxy": re.compile(r"\S*/haproxy\b"),
}
"""Of titles; Ray changes them with what a process does."""


class Failed(Exception):
    """A process did not do its part; the message has the end of what it wrote."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Of a process of ours: no Ray but its own, no settings of Serve but those given."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = os.pathsep.join([str(BENCHMARKS), str(ROOT)])
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    return kept | {"PYTHONPATH": path} | quiet | PATIENCE | dict(more)


def run_part(module: str, *arguments: object, seconds: float, given: str = "") -> str:
    """What a module of this folder prints.

    Raises:
        Failed: it failed, or took too long.
    """
    command = [sys.executable, "-m", f"endpoint_parts.{module}", *map(str, arguments)]
    try:
        ended = subprocess.run(
            command,
            input=given,
            cwd=ROOT,
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{module} did not end in {seconds:g} s") from error
    if ended.returncode:
        raise Failed(f"{module} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return ended.stdout


def started(module: str, plan: Mapping[str, Any]) -> "subprocess.Popen[str]":
    """A module of this folder at work on a plan; what it prints is read as it comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"endpoint_parts.{module}"],
        cwd=ROOT,
        env=environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(plan))
    process.stdin.close()
    return process


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def own_places(scratch: Path, lowest: int) -> dict[str, str]:
    """Files and ports of HAProxy and the replicas, so that two Serves do not meet."""
    folder = str(scratch)  # a socket's path has 97 characters at most
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(lowest),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(lowest + 99),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(lowest + 20000),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(lowest + 20099),
    }


class Server:
    """An endpoint in a process tree of its own; see `server.py`."""

    def __init__(self, plan: Mapping[str, Any], more: Mapping[str, str], scratch: Path) -> None:
        """Start it and wait until it serves; a busy machine may need a second try.

        Raises:
            Failed: it did not come up.
        """
        self.port = free_port()
        self.scratch = scratch
        self._log = scratch / "server.log"
        self._seen: dict[int, psutil.Process] = {}
        for number in range(TRIES):
            lowest = random.randrange(11000, 29000, 100)
            self.direct_ports = lowest, lowest + 99
            """Of replicas; the lowest and the highest."""
            self._start({**own_places(scratch, lowest), **more})
            try:
                self.ready = self.tell({**plan, "port": self.port}, START_SECONDS)
                return
            except Failed as error:
                self.stop()
                if number + 1 == TRIES:
                    raise
                print(f"  started once more: {error}"[:400], file=sys.stderr, flush=True)

    def _start(self, more: Mapping[str, str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "endpoint_parts.server"],
                cwd=ROOT,
                env=environment(more),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=self._read, args=(self._process, self._lines), daemon=True).start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tell(self, command: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Give it a line, and wait for its answer.

        Raises:
            Failed: it ended, or did not answer in time.
        """
        self.members()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=seconds)
        except (OSError, queue.Empty) as error:
            raise Failed(f"no answer in {seconds:g} s: {self._tail()}") from error
        if not line:
            raise Failed(f"the server ended: {self._tail()}")
        return json.loads(line)

    def members(self) -> list[psutil.Process]:
        """All processes of the tree that live, also those that have left it since."""
        with suppress(psutil.Error):
            top = psutil.Process(self._process.pid)
            for process in (top, *top.children(recursive=True)):
                if process.pid not in self._seen or not self._seen[process.pid].is_running():
                    self._seen[process.pid] = process
        return [process for process in self._seen.values() if process.is_running()]

    def by_kind(self) -> dict[str, list[psutil.Process]]:
        """Processes of the tree by what they do."""
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in KINDS}
        for process in self.members():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                title = " ".join(process.cmdline()[:1])
                for kind, pattern in KINDS.items():
                    if pattern.match(title):
                        found[kind].append(process)
        return found

    def stop(self) -> None:
        """End it: asked first, then each process by its id."""
        self.members()
        with suppress(Failed):
            self.tell({"do": "stop"}, STOP_SECONDS)
        left = self.members() + self._strays()
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        self._process.wait(10)

    def _strays(self) -> list[psutil.Process]:
        """HAProxies that a reload has started below nobody; our folder is in their command."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "haproxy" and str(self.scratch) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    @staticmethod
    def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
