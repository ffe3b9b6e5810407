"""From one replica to four while the load rises: when each is there, and what clients get.

Closed loops of rising concurrency, one step after the other; replicas are counted every quarter of
a second. Autoscaling aims at few requests per replica, so that two cores can bring it to four; how
much four replicas answer on two cores is not the question.
"""

import json
import subprocess
import sys
import threading
import time
from typing import Any

from endpoint_parts.processes import HAPROXY, Failed, Server, started
from endpoint_parts.setting import KEY, Setting

SERVING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 8.0,
    "answer_within_s": 30.0,
}
STEPS = (2, 12, 24, 48)
"""Requests at once; the first leaves one replica enough."""
STEP_SECONDS = {False: (20.0, 60.0), True: (6.0, 25.0)}  # of the first, of others; by is_quick
LAST_SECONDS = 60.0
"""More for the last step, whose replicas start on busy cores."""
LOOK_EVERY_S = 0.25


def measure(setting: Setting) -> dict[str, Any]:
    """Steps of load, and when how many replicas ran."""
    first, other = STEP_SECONDS[setting.is_quick]
    seconds = [first, *[other] * (len(STEPS) - 2), other + LAST_SECONDS]
    with Server(setting.plan(**SERVING), HAPROXY, setting.folder("scale")) as server:
        client = _client(setting, server, seconds)
        points: list[dict[str, Any]] = []
        reader = threading.Thread(target=_read, args=(client, points), daemon=True)
        reader.start()
        try:
            changes = _watch(server, client, sum(seconds) + 120)
        finally:
            client.kill()
            reader.join(10)
    starts = [round(sum(seconds[:number]), 1) for number in range(len(seconds))]
    steps = [
        {"concurrency": step, "at_s": at, "seconds": length}
        for step, at, length in zip(STEPS, starts, seconds, strict=True)
    ]
    return {
        "seconds_to_replicas": _times(changes, starts),
        "replicas_over_time": changes,
        "steps": steps,
        "points": points,
        "wrong_answers": sum(point["answers"]["wrong"] for point in points),
    }


def _client(setting: Setting, server: Server, seconds: list[float]) -> "subprocess.Popen[str]":
    plan = {
        "port": server.port,
        "key": KEY,
        "workload": str(setting.workload),
        "prompts_per_request": 1,
        "points": [
            {"concurrency": step, "warm_up_s": 0.0, "seconds": length}
            for step, length in zip(STEPS, seconds, strict=True)
        ],
    }
    return started("load", plan)


def _read(client: "subprocess.Popen[str]", points: list[dict[str, Any]]) -> None:
    assert client.stdout is not None
    for line in client.stdout:
        points.append(json.loads(line))
        print(f"  scale: {line.strip()[:300]}", file=sys.stderr, flush=True)


def _watch(server: Server, client: "subprocess.Popen[str]", seconds: float) -> list[dict[str, Any]]:
    """Every change of the replicas' states until the load ends."""
    began, changes, before = time.monotonic(), [], None
    while time.monotonic() - began < seconds and client.poll() is None:
        try:
            states = server.tell({"do": "states"}, 30.0).get("replicas")
        except Failed as error:
            changes.append({"at_s": round(time.monotonic() - began, 1), "failed": str(error)[:500]})
            break
        if states != before:
            changes.append({"at_s": round(time.monotonic() - began, 1), "replicas": states})
            before = states
        time.sleep(LOOK_EVERY_S)
    return changes


def _times(changes: list[dict[str, Any]], starts: list[float]) -> dict[str, Any]:
    """For each number of running replicas: seconds since the load's first rise, and since the step
    in which it was reached began."""
    found: dict[str, Any] = {}
    for number in range(2, SERVING["max_replicas"] + 1):
        reached = [
            change["at_s"] for change in changes if _running(change.get("replicas") or {}) >= number
        ]
        if reached:
            step = max((start for start in starts if start <= reached[0]), default=0.0)
            found[str(number)] = {
                "since_first_rise_s": round(reached[0] - starts[1], 1),
                "since_its_step_s": round(reached[0] - step, 1),
            }
        else:
            found[str(number)] = None
    return found


def _running(states: dict[str, int]) -> int:
    return sum(num for state, num in states.items() if state == "RUNNING")
