"""The load generator: one process, one thread, as many connections as requests at once.

    python -m endpoint_parts.load < plan.json     # one JSON line per point comes out

A plan has `port`, `key`, `workload`, `prompts_per_request` and `points`; a point has `concurrency`,
`warm_up_s` and `seconds`. Closed loop: a connection's next request goes out when its answer is in.
Counted are answers that come in within the time; failed connections are opened anew.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from endpoint_parts.judging import Judge, Workload
from endpoint_parts.wire import Connection, post

ANSWER_SECONDS = 60.0
PAUSE_S = 0.05
"""After an error or a refusal, so that a closed loop does not spin."""


@dataclass
class Requests:
    """Requests as bytes, one after the other, with the places of their prompts."""

    key: str
    workload: Workload
    per_request: int

    def __post_init__(self) -> None:
        prompts, size = self.workload.prompts, self.per_request
        groups = [
            [(start + number) % len(prompts) for number in range(size)]
            for start in range(0, len(prompts), size)
        ]
        self.all = [(group, self._bytes([prompts[place] for place in group])) for group in groups]
        self._numbers = count()

    def next(self) -> tuple[list[int], bytes]:
        """The next request and its prompts' places."""
        return self.all[next(self._numbers) % len(self.all)]

    def _bytes(self, prompts: list[str]) -> bytes:
        body = {"prompt": prompts[0]} if self.per_request == 1 else {"prompts": prompts}
        return post("/v1/route", body, self.key)


@dataclass
class Point:
    """One concurrency, measured."""

    judge: Judge
    starts_at: float = 0.0
    ends_at: float = 0.0
    right: int = 0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    async def work(self, port: int, requests: Requests) -> None:
        """One connection's part."""
        connection: Connection | None = None
        while time.perf_counter() < self.ends_at:
            places, request = requests.next()
            sent = time.perf_counter()
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.open(port)
                answer = await connection.ask(request, ANSWER_SECONDS)
            except OSError as error:
                self.statuses[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            came = time.perf_counter()
            if self.starts_at <= came < self.ends_at:
                self.statuses[str(answer.status)] += 1
                if answer.status == 200:
                    self.latencies.append(came - sent)
                    self.right += self.judge(places, answer.body)
            if answer.status != 200:
                await asyncio.sleep(PAUSE_S)
        if connection is not None:
            connection.close()


async def measure(plan: dict[str, Any], point: dict[str, Any], requests: Requests) -> None:
    """One point, printed."""
    began, cpu = time.perf_counter(), time.process_time()
    found = Point(Judge(requests.workload), began + point["warm_up_s"])
    found.ends_at = found.starts_at + point["seconds"]
    await asyncio.gather(*(found.work(plan["port"], requests) for _ in range(point["concurrency"])))
    times = np.array(found.latencies) * 1000 if found.latencies else np.array([np.nan])
    p50, p99 = (None if np.isnan(one) else round(one, 2) for one in np.quantile(times, (0.5, 0.99)))
    result = {
        "concurrency": point["concurrency"],
        "per_second": round(len(found.latencies) / point["seconds"], 2),
        "prompts_per_second": round(found.right / point["seconds"], 2),
        "p50_ms": p50,
        "p99_ms": p99,
        "statuses": dict(found.statuses),
        "answers": found.judge.summary(),
        "client_cpus": round((time.process_time() - cpu) / (time.perf_counter() - began), 3),
    }
    print(json.dumps(result), flush=True)


def main() -> None:
    os.nice(5)  # what is measured comes first
    plan = json.load(sys.stdin)
    workload = Workload.load(Path(plan["workload"]))
    requests = Requests(plan["key"], workload, plan["prompts_per_request"])
    for point in plan["points"]:
        asyncio.run(measure(plan, point, requests))


if __name__ == "__main__":
    main()
