"""What tables of results share: a result's name in, its figures out; rows in, Markdown out."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

Rows = list[tuple[str, ...]]


def result(name: str) -> Any:
    """One committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head: tuple[str, ...], rows: Rows) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def interval(of: dict[str, Any], digits: int = 2, sign: str = "", key: str = "mean") -> str:
    """A figure with its 95 % interval."""
    form = f"{sign}.{digits}f"
    low, high = format(of["low"], form), format(of["high"], form)
    return f"{of[key]:{form}} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")
