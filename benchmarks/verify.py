"""Checking answers: hostile texts, and verdicts beside published ones.

    python benchmarks/verify.py            # writes benchmarks/results/verify.json; some 20 minutes
    python benchmarks/verify.py --quick    # fewer texts, nothing written

Hostile texts come from `tests/hostile.py`; each goes through the pool by itself and is timed. A
hang is a check that took longer than its wall-clock limit and five seconds more; lost is a row
without an outcome; misjudged is a plain answer planted among them whose known verdict was not
found. Published verdicts are those of six systems' answers to GSM8K
(persyn_ray/data/importers/gsm8k.py).
"""

import argparse
import importlib.util
import os
import platform
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import islice
from types import ModuleType
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from publishing import ROOT, publish

from persyn_ray.checks.final_answer import final_answer
from persyn_ray.checks.verifier import GRACE_SECONDS, Verdict, Verifier

DATA = ROOT / "../shared/data/gsm8k_parallel.parquet"
SEED = 0
TIMEOUT_SECONDS = 1.0  # the recipe's default is 10 s; bombs would then fill the hours
PROCESSES = 2
EXAMPLES = 5


class Checked(NamedTuple):
    """One hostile text: where it is from, how its check ended, and when."""

    family: str
    expected: str | None
    outcome: str | None
    seconds: float


def hostile() -> ModuleType:
    """The generator, which belongs to the tests."""
    spec = importlib.util.spec_from_file_location("hostile", ROOT / "tests" / "hostile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hostile"] = module
    spec.loader.exec_module(module)
    return module


def check_share(texts: ModuleType, count: int, share: int) -> list[Checked]:
    """Check every so many-th text in a process of its own."""
    rows: Iterator[Any] = islice(texts.hostile_strings(count, SEED), share, None, PROCESSES)
    checked: list[Checked] = []
    with Verifier(timeout_seconds=TIMEOUT_SECONDS) as verifier:
        verifier.check([("$y$", "y")])  # starting is not checking
        for row in rows:
            started = time.monotonic()
            verdicts = verifier.check([(row.response, row.reference)])
            seconds = time.monotonic() - started
            outcome = str(verdicts[0].outcome) if verdicts else None
            checked.append(Checked(row.family, row.expected, outcome, seconds))
    return checked


def hostile_figures(count: int) -> dict[str, Any]:
    """Hangs, losses, rates and outcomes of so many hostile texts."""
    with ThreadPoolExecutor(PROCESSES) as threads:
        shares = threads.map(partial(check_share, hostile(), count), range(PROCESSES))
        rows = [row for share in shares for row in share]
    busy = sum(row.seconds for row in rows)
    planted = [row for row in rows if row.expected is not None]
    families: dict[str, list[Checked]] = defaultdict(list)
    for row in rows:
        families[row.family].append(row)
    return {
        "strings": count,
        "hangs": sum(row.seconds > TIMEOUT_SECONDS + GRACE_SECONDS for row in rows),
        "lost": count - sum(row.outcome is not None for row in rows),
        "planted": len(planted),
        "misjudged": sum(row.outcome != row.expected for row in planted),
        "checks_per_second_per_core": round(len(rows) / busy, 1),
        "slowest_seconds": round(max(row.seconds for row in rows), 3),
        "shares": _shares(rows),
        "by_family": {
            name: {
                "strings": len(of),
                "mean_milliseconds": round(1000 * sum(row.seconds for row in of) / len(of), 1),
                "shares": _shares(of),
            }
            for name, of in sorted(families.items())
        },
    }


def _shares(rows: list[Checked]) -> dict[str, float]:
    counts = Counter(str(row.outcome) for row in rows)
    return {outcome: round(number / len(rows), 4) for outcome, number in counts.most_common()}


def gsm8k_figures(num_rows: int | None) -> dict[str, Any]:
    """Agreement with the published verdicts, and the disagreements by cause."""
    if not DATA.is_file():
        raise SystemExit(
            f"No file at {DATA}: build it by write_gsm8k_parallel of data/importers/gsm8k.py."
        )
    rows = pq.read_table(DATA).slice(0, num_rows).to_pylist()
    with Verifier(timeout_seconds=10 * TIMEOUT_SECONDS) as verifier:
        verifier.check([("$y$", "y")])
        started = time.monotonic()
        verdicts = verifier.check([(row["response"], row["answer"]) for row in rows])
        seconds = time.monotonic() - started
    causes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row, verdict in zip(rows, verdicts, strict=True):
        if (verdict.quality == 1.0) != row["is_correct"]:
            causes[cause_of(row, verdict)].append(_example(row, verdict))
    different = sum(map(len, causes.values()))
    by_size = sorted(causes.items(), key=lambda item: -len(item[1]))
    return {
        "rows": len(rows),
        "agreement": round(1 - different / len(rows), 4),
        "checks_per_second_per_core": round(len(rows) / seconds, 1),
        "outcomes": dict(Counter(str(verdict.outcome) for verdict in verdicts)),
        "disagreements": different,
        "by_cause": {cause: {"rows": len(of), "examples": of[:EXAMPLES]} for cause, of in by_size},
    }


def cause_of(row: dict[str, Any], verdict: Verdict) -> str:
    """Why a verdict differs from the published one, which compares the last run of digits."""
    text, answer = row["response"], row["answer"]
    digits = re.findall(r"\d+", text.replace(",", ""))
    if (bool(digits) and digits[-1] == answer) != row["is_correct"]:
        return "published verdict follows no rule known"
    answer = final_answer(text)
    said = "" if answer is None else answer.text
    if verdict.quality == 1.0:
        if re.search(r"\.0+\W*(\D*)$", text):
            return "published: reads the cents of $20.00 for 20"
        if re.search(r"\d:\d\d\D*$", text):
            return "published: reads the minutes of 2:00 pm for 2"
        if "<<" in text.rpartition("\n")[2] and ">>" not in text.rpartition("<<")[2]:
            return "ours: response was cut, an unfinished formula has the right value"
        return "published: reads a number behind the answer"
    if re.fullmatch(r"-\d+", said):
        return "published: drops the sign of -15 for 15"
    if re.fullmatch(r"\d+\.\d+", said):
        return "published: drops what stands before the point of 0.5 for 5"
    if "not possible" in said:
        return "published: finds the number in a response that gives no answer"
    return "ours: reads another number of a sentence than its answer"


def _example(row: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    return {
        "teacher": row["teacher"],
        "answer": row["answer"],
        "published": row["is_correct"],
        "outcome": str(verdict.outcome),
        "response_ends": row["response"][-160:],
    }


def main() -> None:
    """Check both sets and print the result as one JSON line."""
    parser = argparse.ArgumentParser(description="Checks of hostile and of published answers.")
    parser.add_argument("--quick", action="store_true", help="few texts; nothing is written")
    options = parser.parse_args()
    count = 1_000 if options.quick else 100_000
    gsm8k = gsm8k_figures(1_000 if options.quick else None)
    result = {
        "name": "verify",
        "figures": {**hostile_figures(count), "gsm8k": gsm8k},
        "goals": {"strings": 100_000, "hangs": 0, "lost": 0, "misjudged": 0},
        "hardware": {"cpus": os.cpu_count(), "gpus": 0},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("persyn-ray", "math-verify", "sympy")},
        },
        "seed": SEED,
        "config": {
            "timeout_seconds": TIMEOUT_SECONDS,
            "hang": f"longer than the limit and {GRACE_SECONDS:g} s",
            "processes": PROCESSES,
            "checks_per_second_per_core": "checks / seconds that processes were busy",
            "gsm8k_timeout_seconds": 10 * TIMEOUT_SECONDS,
            "quick": options.quick,
        },
    }
    publish(result, options.quick)


if __name__ == "__main__":
    main()
