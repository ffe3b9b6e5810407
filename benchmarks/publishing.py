"""How every benchmark ends: its result as one JSON line, and in full form as a committed file."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def publish(result: dict[str, Any], is_quick: bool) -> None:
    """Print the result; also write benchmarks/results/NAME.json unless the run was a quick one."""
    if not is_quick:
        out = ROOT / "benchmarks" / "results" / f"{result['name']}.json"
        out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


def measured(part: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A part's figures, or why there are none."""
    began = time.monotonic()
    print(f"{part} ...", file=sys.stderr, flush=True)
    try:
        found = measure()
    except Exception as error:  # the other parts go on
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}"[:2000]}
    load = [round(one, 2) for one in os.getloadavg()]
    return found | {"seconds": round(time.monotonic() - began), "load_average_at_end": load}


def known_figures(name: str, parts: Sequence[str]) -> dict[str, Any]:
    """Those parts of a benchmark that an earlier run has measured."""
    result = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not result.exists():
        return {}
    figures = json.loads(result.read_text())["figures"]
    return {part: figures[part] for part in parts if part in figures}
