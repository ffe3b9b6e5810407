"""How every benchmark ends: its result as one JSON line, and in full form as a committed file."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def publish(result: dict[str, Any], is_quick: bool) -> None:
    """Print the result; also write benchmarks/results/NAME.json unless the run was a quick one."""
    if not is_quick:
        out = ROOT / "benchmarks" / "results" / f"{result['name']}.json"
        out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
