"""Memory of an endpoint's processes over time."""

import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from endpoint_parts.processes import Server

WATCHED = ("replica", "proxy", "haproxy", "controller", "tally")
MIB = 2**20
SETTLED = 0.2
"""Part of a process' time before which its memory does not count: it warms up."""
LEAST_SAMPLES = 10


@dataclass
class Memory:
    """Samples of each process: seconds, PSS and RSS in MiB."""

    server: Server
    began: float = field(default_factory=time.monotonic)
    samples: dict[tuple[str, int], list[tuple[float, float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def look(self) -> None:
        """Take a sample of every process that is there."""
        for kind, processes in self.server.by_kind().items():
            for process in processes:
                with suppress(psutil.Error):
                    found = process.memory_full_info()
                    now = time.monotonic() - self.began
                    self.samples[kind, process.pid].append((now, found.pss / MIB, found.rss / MIB))

    def summary(self) -> dict[str, Any]:
        """By kind: the process that lived longest, its growth, and the most that all held."""
        found: dict[str, Any] = {}
        for kind in WATCHED:
            longest = max(
                (rows for (of, _), rows in self.samples.items() if of == kind), key=len, default=[]
            )
            if longest:
                found[kind] = _of_process(longest) | {
                    "processes": sum(of == kind for of, _ in self.samples)
                }
        return found

    def growth_mib(self) -> float | None:
        """The largest growth of PSS of a process that lived through it all."""
        grown = [one["growth_mib"] for one in self.summary().values() if one["growth_mib"]]
        return max(grown, default=None)


def _of_process(rows: list[tuple[float, float, float]]) -> dict[str, Any]:
    seconds, pss, rss = np.array(rows).T
    settled = seconds >= seconds[0] + SETTLED * (seconds[-1] - seconds[0])
    growth = slope = None
    if settled.sum() >= LEAST_SAMPLES:
        fifth = max(1, int(settled.sum()) // 5)
        growth = round(float(pss[-fifth:].mean() - pss[settled][:fifth].mean()), 2)
        slope = round(float(np.polyfit(seconds[settled] / 60, pss[settled], 1)[0]), 3)
    return {
        "lived_s": round(float(seconds[-1] - seconds[0])),
        "pss_mib": [round(float(one), 1) for one in pss[:: max(1, len(pss) // 20)]],
        "rss_mib_last": round(float(rss[-1]), 1),
        "growth_mib": growth,
        "mib_per_minute": slope,
    }
