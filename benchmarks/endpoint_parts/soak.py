"""Minutes of load at 80 % of the peak while replicas are killed and the router is swapped.

Three replicas on purpose: the one that has lived longest is spared, so that its memory can be
followed; every 30 seconds one of the others is killed (SIGKILL). Half-way another router comes in
through `user_config`. An answer is right when it is so for the router version that it names.
"""

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import psutil

from endpoint_parts.latency import load
from endpoint_parts.memory import Memory
from endpoint_parts.processes import HAPROXY, Failed, Server, started
from endpoint_parts.setting import KEY, Setting
from endpoint_parts.steady import RETRIABLE

SERVING: dict[str, Any] = {"min_replicas": 3, "max_replicas": 3}
SHARE_OF_PEAK = 0.8
KILL_EVERY_S, LOOK_EVERY_S, REPORT_EVERY_S = 30.0, 5.0, 30.0
PATIENCE_S = 60.0
SWAP_SECONDS = 400.0
PEAK_POINT = {"concurrency": 64, "warm_up_s": 3.0, "seconds": 10.0}


def measure(setting: Setting, minutes: float, peak: float | None) -> dict[str, Any]:
    """The whole soak. Without a known peak it is measured first, on these replicas."""
    with Server(setting.plan(**SERVING), HAPROXY, setting.folder("soak")) as server:
        own = load(setting, server, [PEAK_POINT])[0]["per_second"]
        # Replicas share the cores with all else here: what one alone reached may be too much.
        base = min(own, peak) if peak else own
        rate = max(1.0, SHARE_OF_PEAK * base)
        facts = {"peak_here": own, "peak_of_latency": peak, "per_second_sent": round(rate, 2)}
        return facts | Soak(setting, server, rate, minutes * 60).run()


class Soak:
    """Load in another process; here kills, the swap, and looks at memory."""

    def __init__(self, setting: Setting, server: Server, rate: float, seconds: float) -> None:
        self.setting, self.server, self.seconds = setting, server, seconds
        self.events: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.memory = Memory(server)
        self.random = random.Random(0)
        self.plan = {
            "port": server.port,
            "key": KEY,
            "workload": str(setting.workload),
            "per_second": rate,
            "seconds": seconds,
            "report_s": REPORT_EVERY_S,
            "patience_s": PATIENCE_S,
        }
        self.began = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Until the load ends, or fails to."""
        client = started("steady", self.plan)
        reader = threading.Thread(target=self._read, args=(client,), daemon=True)
        reader.start()
        try:
            self._disturb(client)
            client.wait(PATIENCE_S + 30)
        except subprocess.TimeoutExpired:
            self._note("the client did not end")
        finally:
            client.kill()
            reader.join(10)
        return self.summary()

    def _disturb(self, client: "subprocess.Popen[str]") -> None:
        next_kill, next_swap = KILL_EVERY_S, self.seconds / 2
        while (now := time.monotonic() - self.began) < self.seconds and client.poll() is None:
            self.memory.look()
            if now >= next_kill:
                next_kill += KILL_EVERY_S
                self._kill()
            if now >= next_swap:
                next_swap = float("inf")
                threading.Thread(target=self._swap, daemon=True).start()
            time.sleep(LOOK_EVERY_S)

    def _kill(self) -> None:
        replicas = self.server.by_kind()["replica"]
        with suppress(psutil.Error):
            replicas.sort(key=psutil.Process.create_time)
            if len(replicas) < 2:
                self._note("no kill: one replica is left")
                return
            victim = self.random.choice(replicas[1:])
            victim.kill()
            self._note(f"killed one of {len(replicas)} replicas", pid=victim.pid)

    def _swap(self) -> None:
        try:
            command = {"do": "swap", "router": self.setting.routers["second"]}
            self._note("another router was given")
            self._note("the application runs with it", **self.server.tell(command, SWAP_SECONDS))
        except Failed as error:
            self._note(f"swap failed: {error}")

    def _note(self, event: str, **more: Any) -> None:
        at = round(time.monotonic() - self.began, 1)
        self.events.append({"at_s": at, "event": event, **more})

    def _read(self, client: "subprocess.Popen[str]") -> None:
        assert client.stdout is not None
        for line in client.stdout:
            self.lines.append(json.loads(line))
            print(f"  soak: {line.strip()[:300]}", file=sys.stderr, flush=True)

    def summary(self) -> dict[str, Any]:
        """Counts of the last line, and how it came about."""
        last = self.lines[-1] if self.lines else {}
        if not last.get("final"):
            self._note("the client gave no final line")
        attempts: dict[str, int] = last.get("attempts", {})
        odd = {
            status: num
            for status, num in attempts.items()
            if status.isdigit() and status != "200" and int(status) not in RETRIABLE
        }
        answers = last.get("answers", {})
        versions = {line["at_s"]: line["answers"]["versions"] for line in self.lines[:-1]}
        return {
            "minutes": round(self.seconds / 60, 2),
            "wrong_answers": answers.get("wrong"),
            "router_versions_seen": len(answers.get("versions", {})),  # 2 once the swap is through
            "statuses_not_retriable": sum(odd.values()) if last else None,
            "memory_growth_mib": self.memory.growth_mib(),
            "client": last,
            "versions_over_time": versions,
            "over_time": self.lines[:-1],
            "events": self.events,
            "memory": self.memory.summary(),
        }
