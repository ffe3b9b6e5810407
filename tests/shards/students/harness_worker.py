"""Evaluates untuned students by the harness: `python harness_worker.py RECIPE.json...`.

The last line of what it prints is JSON: of each recipe the samples filed and the engines
that were left behind, or the error.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil


def evaluated(path: str) -> dict[str, Any]:
    from persyn_ray.errors import PersynError
    from persyn_ray.recipe.recipe import parse_recipe
    from persyn_ray.shards.students.harness import EvaluateByHarness
    from persyn_ray.shards.units import Unit

    work = EvaluateByHarness(parse_recipe(json.loads(Path(path).read_text()), path))
    try:
        rows = work(Unit(shard="", student="before")).rows
        return {"rows": rows, "left": engines()}
    except PersynError as error:
        return {"error": str(error)}


def engines() -> list[str]:
    """Names of the processes of this one that hold as much memory as a model."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it is ending
            if one.memory_info().rss > 2**28:
                found.append(one.name())
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    print(json.dumps([evaluated(path) for path in sys.argv[1:]]))
