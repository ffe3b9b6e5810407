"""Requests that are wrong in all ways, and whether the endpoint still answers afterwards.

Half of them come from the OpenAPI document (`fuzz_schema.py`; what it cannot make in its time comes
from the rest), the others are hostile JSON and headers, and bytes that are no HTTP
(`fuzz_wire.py`). These go to the ingress and to a replica's own port in turns, for HAProxy refuses
much of it by itself.
"""

import asyncio
import json
import urllib.request
from collections import Counter
from typing import Any

import psutil

from endpoint_parts.judging import Judge, Workload
from endpoint_parts.processes import HAPROXY, Failed, Server, run_part
from endpoint_parts.setting import KEY, Setting
from endpoint_parts.wire import Connection, post

SHARES = {"schema": 0.5, "hostile": 0.3, "malformed": 0.2}
SCHEMA_SECONDS = {False: 900.0, True: 90.0}  # by whether it is quick
WIRE_SECONDS = {False: 2400.0, True: 400.0}
NOBODY = "http://127.0.0.1:9/v1"
"""Where no teacher listens, so that chats get as far as they can."""
NUM_PLAIN = 32
SEED = 0


def measure(setting: Setting, num: int) -> dict[str, Any]:
    """All requests, and plain ones before and after."""
    upstream = {"model": "m", "base_url": NOBODY, "api_key_env": None}
    plan = setting.plan(upstreams={"gpt-4": upstream, "mixtral": upstream})
    with Server(plan, HAPROXY, setting.folder("fuzz")) as server:
        before = {process.pid for process in server.by_kind()["replica"]}
        found: dict[str, Any] = {"plain_before": _plain(setting, server)}
        found["schema"] = _schema(setting, server, int(num * SHARES["schema"]))
        rest = num - found["schema"].get("sent", 0)
        hostile = round(rest * SHARES["hostile"] / (SHARES["hostile"] + SHARES["malformed"]))
        found["wire"] = _wire(setting, server, hostile, rest - hostile)
        found["plain_after"] = _plain(setting, server)
        found["replicas_lost"] = len(
            before - {process.pid for process in server.by_kind()["replica"]}
        )
        found["metrics_after"] = _counted(server)
    return found | _summary(found)


def _schema(setting: Setting, server: Server, num: int) -> dict[str, Any]:
    seconds = SCHEMA_SECONDS[setting.is_quick]
    plan = {"port": server.port, "key": KEY, "requests": num, "seconds": seconds, "seed": SEED}
    try:
        return json.loads(
            run_part("fuzz_schema", seconds=seconds + 180, given=json.dumps(plan)).splitlines()[-1]
        )
    except Failed as error:
        return {"failed": str(error)}


def _wire(setting: Setting, server: Server, hostile: int, malformed: int) -> dict[str, Any]:
    ports = [server.port, *_replica_ports(server)]
    plan = {"ports": ports, "key": KEY, "hostile": hostile, "malformed": malformed, "seed": SEED}
    try:
        line = run_part("fuzz_wire", seconds=WIRE_SECONDS[setting.is_quick], given=json.dumps(plan))
    except Failed as error:
        return {"failed": str(error)}
    sent = {"hostile": hostile, "malformed": malformed}
    return {"sent": sent, "ports": len(ports)} | json.loads(line.splitlines()[-1])


def _replica_ports(server: Server) -> list[int]:
    """Where replicas listen for HTTP themselves."""
    lowest, highest = server.direct_ports
    return [
        listening.laddr.port
        for process in server.by_kind()["replica"]
        for listening in process.net_connections("tcp")
        if listening.status == psutil.CONN_LISTEN and lowest <= listening.laddr.port <= highest
    ]


def _plain(setting: Setting, server: Server) -> dict[str, Any]:
    """Are ordinary requests answered, and rightly?"""
    workload = Workload.load(setting.workload)
    judge, statuses = Judge(workload), Counter[str]()

    async def ask() -> None:
        for place, prompt in enumerate(workload.prompts[:NUM_PLAIN]):
            try:
                connection = await Connection.open(server.port)
                answer = await connection.ask(post("/v1/route", {"prompt": prompt}, KEY), 60.0)
                connection.close()
            except OSError as error:
                statuses[type(error).__name__] += 1
                continue
            statuses[str(answer.status)] += 1
            if answer.status == 200:
                judge([place], answer.body)

    asyncio.run(ask())
    return {"statuses": dict(statuses), "answers": judge.summary()}


def _counted(server: Server) -> list[str]:
    """What the endpoint itself says of its statuses."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/metrics", headers={"Authorization": f"Bearer {KEY}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError as error:
        return [str(error)]
    return [line for line in lines if line.startswith("persyn_requests_total")]


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Statuses over all requests; 500 null where a part is missing."""
    statuses: Counter[str] = Counter()
    for part in ("schema", "wire"):
        for counts in found[part].get("statuses", {}).values():
            statuses.update(counts)
    is_whole = not any("failed" in found[part] for part in ("schema", "wire"))
    sent = found["schema"].get("sent", 0) + sum(found["wire"].get("sent", {}).values())
    return {
        "requests": sent,
        "statuses": dict(sorted(statuses.items())),
        "errors_500": statuses["500"] if is_whole else None,
        "right_before_and_after": [
            found[name]["answers"]["right"] for name in ("plain_before", "plain_after")
        ],
        "plain_requests": NUM_PLAIN,
    }
