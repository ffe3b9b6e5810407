"""Load at a fixed rate, by a client that tries again: the open loop of the soak.

    python -m endpoint_parts.steady < plan.json    # a JSON line every few seconds, the last is all

Requests start on a fixed grid of time, whatever became of those before; latency counts from there.
Retried are 429, 502, 503, 504 and lost connections, as `persyn_ray.client.http` does; a plan has
`port`, `key`, `workload`, `per_second`, `seconds`, `report_s`.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from endpoint_parts.judging import Judge, Workload
from endpoint_parts.load import Requests
from endpoint_parts.wire import Answer, Connection

RETRIABLE = {429, 502, 503, 504}
ATTEMPTS, LONGEST_PAUSE_S = 10, 4.0
ATTEMPT_SECONDS = 40.0
MOST_AT_ONCE = 1024
"""Requests beyond it are not sent, and counted as `not_sent`."""


@dataclass
class Client:
    """What the requests met, by attempt and in the end."""

    port: int
    judge: Judge
    attempts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """From when a request was due to its right answer, retries included."""
    num_tries: Counter[int] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    """The first answers that are neither 200 nor to be retried."""
    idle: list[Connection] = field(default_factory=list)
    num_now: int = 0

    async def request(self, places: list[int], request: bytes, due: float) -> None:
        """One request until it is answered for good."""
        self.num_now += 1
        try:
            for attempt in range(1, ATTEMPTS + 1):
                answer = await self._attempt(request)
                if answer is not None and answer.status not in RETRIABLE:
                    self._ended(places, answer, attempt, due)
                    return
                await asyncio.sleep(self._pause(answer, attempt))
            self.outcomes["given_up"] += 1
        finally:
            self.num_now -= 1

    async def _attempt(self, request: bytes) -> Answer | None:
        connection: Connection | None = None
        try:
            connection = self._idle() or await Connection.open(self.port)
            answer = await connection.ask(request, ATTEMPT_SECONDS)
        except OSError as error:
            self.attempts[type(error).__name__] += 1
            return None
        finally:
            if connection is not None and connection.is_open:
                self.idle.append(connection)
        self.attempts[str(answer.status)] += 1
        return answer

    def _idle(self) -> Connection | None:
        while self.idle:
            if (connection := self.idle.pop()).is_open:
                return connection
        return None

    def _ended(self, places: list[int], answer: Answer, attempt: int, due: float) -> None:
        self.outcomes[str(answer.status)] += 1
        self.num_tries[attempt] += 1
        self.seconds.append(time.perf_counter() - due)
        if answer.status == 200:
            self.judge(places, answer.body)
        elif len(self.odd) < 5:
            self.odd.append(f"{answer.head[:400]!r} {answer.body[:300]!r}")

    @staticmethod
    def _pause(answer: Answer | None, attempt: int) -> float:
        asked = answer.retry_after_s if answer is not None else None
        longest = min(LONGEST_PAUSE_S, 0.1 * 2**attempt)
        return (asked or 0.0) + random.uniform(0, longest)

    def summary(self, since: int = 0) -> dict[str, Any]:
        """What was counted, latencies from the `since`-th on."""
        times = np.array(self.seconds[since:]) * 1000
        quantiles = np.quantile(times, (0.5, 0.99, 1.0)).round(1).tolist() if len(times) else None
        return {
            "ended": len(self.seconds),
            "p50_p99_max_ms": quantiles,
            "attempts": dict(self.attempts),
            "outcomes": dict(self.outcomes),
            "first_odd": self.odd,
            "answers": self.judge.summary(),
        }


async def run(plan: dict[str, Any]) -> None:
    """The whole load; lines as it goes."""
    workload = Workload.load(Path(plan["workload"]))
    requests, client = Requests(plan["key"], workload, 1), Client(plan["port"], Judge(workload))
    step, began = 1 / plan["per_second"], time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    reported, since = began, 0
    for number in range(int(plan["seconds"] * plan["per_second"])):
        due = began + number * step
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        if client.num_now >= MOST_AT_ONCE:
            client.outcomes["not_sent"] += 1
        else:
            task = asyncio.create_task(client.request(*requests.next(), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if time.perf_counter() - reported > plan["report_s"]:
            at = {"at_s": round(time.perf_counter() - began, 1), "at_once": client.num_now}
            print(json.dumps(at | client.summary(since)), flush=True)
            reported, since = time.perf_counter(), len(client.seconds)
    if tasks:
        await asyncio.wait(tasks, timeout=plan["patience_s"])
    lost = sum(not task.done() for task in tasks)
    spent = time.perf_counter() - began
    rate = {"per_second": len(client.seconds) / spent, "unanswered_at_the_end": lost}
    tries = {"tries": {str(k): n for k, n in sorted(client.num_tries.items())}}
    print(json.dumps({"final": True, **client.summary(), **rate, **tries}), flush=True)
    os._exit(0)  # requests that hang would be waited for


def main() -> None:
    os.nice(5)
    asyncio.run(run(json.load(sys.stdin)))


if __name__ == "__main__":
    main()
