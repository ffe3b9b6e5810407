"""Requests per second and latency of three ways to serve one router.

- haproxy: the endpoint behind HAProxy, in Serve's throughput mode;
- python_proxy: the endpoint behind Serve's own proxy;
- default: Serve's default path with the router called prompt by prompt (`default_app.py`).

Each has its own Ray, one after the other; the load comes from another process. All have one
replica with one logical CPU, and so one thread of torch; the default path works on five requests at
once, with as many threads.

A MiniLM's multiplications take most of the time, whatever is done around them. So the first and the
last way are measured with the lab's student as backbone as well (`light`), where they do not.
"""

import json
import sys
from typing import Any

from endpoint_parts.processes import HAPROXY, Failed, Server, run_part
from endpoint_parts.setting import KEY, Setting
from persyn_ray.runtime.serve_command import INGRESS

WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "haproxy": ("ours", HAPROXY),
    "python_proxy": ("ours", INGRESS),
    "default": ("default", {}),
}
CONCURRENCIES = (1, 16, 64, 128)
# A point is many batches long: one of 128 prompts takes over three seconds.
SECONDS = {False: (5.0, 40.0), True: (1.0, 6.0)}  # warm-up, measured; by whether it is quick
MANY, MANY_AT_ONCE = 256, 2
THREADS = 1
# A request of many prompts takes seconds here; none shall be answered without the router.
PATIENT = {"answer_within_s": 60.0, "request_timeout_s": 120.0, "cpus": THREADS}
LIGHT = "package:persyn_ray/lab/assets/student"
LIGHT_AT_ONCE = 64


def measure(setting: Setting) -> dict[str, Any]:
    """All ways; one that fails says why and leaves the others."""
    found: dict[str, Any] = {"seconds_of_a_point": SECONDS[setting.is_quick]}
    found |= {"bare": _bare(setting), "ways": {}}
    for way, (app, more) in WAYS.items():
        folder = setting.folder(way)
        plan = setting.plan(app, **(PATIENT if app == "ours" else {}))
        try:
            with Server(plan, more, folder) as server:
                found["ways"][way] = {"points": _points(setting, server)}
                if way == "haproxy":
                    found["many"] = _many(setting, server)
        except (Failed, OSError) as error:
            found["ways"].setdefault(way, {})["failed"] = str(error)
        print(f"{way}: {json.dumps(found['ways'][way])}", file=sys.stderr, flush=True)
    return found | _ratios(found) | {"light": _light(setting)}


def _light(setting: Setting) -> dict[str, Any]:
    """The endpoint and the default path where the model itself takes next to nothing."""
    light = Setting.prepared(setting.folder("light"), setting.is_quick, LIGHT)
    warm_up, seconds = SECONDS[setting.is_quick]
    point = {"concurrency": LIGHT_AT_ONCE, "warm_up_s": warm_up, "seconds": seconds}
    found: dict[str, Any] = {"facts": light.facts}
    for way in ("haproxy", "default"):
        app, more = WAYS[way]
        plan = light.plan(app, **(PATIENT if app == "ours" else {}))
        try:
            with Server(plan, more, setting.folder(f"{way}2")) as server:
                found[way] = load(light, server, [point])[0]
        except (Failed, OSError) as error:
            found[way] = {"failed": str(error)}
    rates = [found[way].get("per_second") for way in ("haproxy", "default")]
    return found | {"over_default_c64": _ratio(*rates)}


def load(
    setting: Setting, server: Server, points: list[dict[str, Any]], per_request: int = 1
) -> list[dict[str, Any]]:
    """Closed loops, one point after the other."""
    plan = {
        "port": server.port,
        "key": KEY,
        "workload": str(setting.workload),
        "prompts_per_request": per_request,
        "points": points,
    }
    seconds = sum(point["warm_up_s"] + point["seconds"] for point in points)
    limit = seconds + 60 * len(points) + 60
    lines = run_part("load", seconds=limit, given=json.dumps(plan)).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def _points(setting: Setting, server: Server) -> list[dict[str, Any]]:
    warm_up, seconds = SECONDS[setting.is_quick]
    points = [{"concurrency": c, "warm_up_s": warm_up, "seconds": seconds} for c in CONCURRENCIES]
    return load(setting, server, points)


def _many(setting: Setting, server: Server) -> dict[str, Any]:
    _, seconds = SECONDS[setting.is_quick]
    point = {"concurrency": MANY_AT_ONCE, "warm_up_s": 8.0, "seconds": max(seconds, 20.0)}
    (found,) = load(setting, server, [point], MANY)
    return found | {"prompts_per_request": MANY}


def _bare(setting: Setting) -> dict[str, Any]:
    seconds = 12.0 if setting.is_quick else 24.0
    arguments = (setting.workload, seconds, THREADS, setting.tokens_per_batch, MANY)
    try:
        return json.loads(run_part("bare", *arguments, seconds=seconds + 400).splitlines()[-1])
    except Failed as error:
        return {"failed": str(error)}


def _ratios(found: dict[str, Any]) -> dict[str, Any]:
    """The figures with a goal; null where a part failed."""
    rates = {
        way: {point["concurrency"]: point["per_second"] for point in of.get("points", [])}
        for way, of in found["ways"].items()
    }
    ours, default = rates.get("haproxy", {}), rates.get("default", {})
    peak = max(ours.values(), default=None)
    many = found.get("many", {}).get("prompts_per_second")
    answers = [p["answers"] for of in found["ways"].values() for p in of.get("points", [])]
    return {
        "over_default_c64": _ratio(ours.get(64), default.get(64)),
        "over_default": {str(c): _ratio(ours.get(c), default.get(c)) for c in CONCURRENCIES},
        "c128_over_peak": _ratio(ours.get(128), peak),
        "haproxy_over_python_proxy_c64": _ratio(
            ours.get(64), rates.get("python_proxy", {}).get(64)
        ),
        "many_over_bare": _ratio(many, found["bare"].get("per_second")),
        "peak_per_second": peak,
        "wrong_answers": sum(answer["wrong"] for answer in answers),
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 3) if above and below else None
