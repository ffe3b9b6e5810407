"""Exports: which forms the tools' own loaders accept, whether all texts come back, at what speed.

    python benchmarks/exports.py            # writes results/exports.json; about 15 minutes
    python benchmarks/exports.py --quick    # a tenth of the rows, nothing written

The forms are read as the tests marked `exports` read them (tests/exports/): each in its tool's own
environment, with hostile texts. A form is accepted when its test passed, which asks for every row
and text and for what would be trained on; trained are those of which the tool trained a step. By
schema are forms whose tool is not on PyPI. Speed and memory are those of `persyn export --to trl`
on a planted run folder of a million prompts.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from planted_recipe import planted_recipe
from publishing import ROOT, publish

from persyn_ray.exports.forms import FORMS
from persyn_ray.recipe.recipe import stored
from persyn_ray.storage.folder import shard_name
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.schemas import ASSIGNMENT, EXAMPLES, PROMPTS, RESPONSES, logits_schema

NUM_ROWS, SHARD_ROWS = 1_000_000, 1_000
TEACHERS = ("a", "b", "c")
KINDS = ("accepted", "trained", "by_schema")
PACKAGES = ("datasets", "pyarrow", "torch", "transformers")


def main() -> None:
    """Read every form, export a large run, and print the result as one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    is_quick = parser.parse_args().quick
    started = time.monotonic()
    forms, failed = read_forms()
    result = {
        "name": "exports",
        "accepted": len(forms["accepted"]),
        "lossless": int(not failed and bool(forms["accepted"])),
        "num_forms": len(FORMS),
        "trained": forms["trained"],
        "by_schema": forms["by_schema"],
        "forms_accepted": forms["accepted"],
        "failed_tests": failed,
        "goals": {"accepted": 10, "lossless": 1},
        "large_run": large_run(NUM_ROWS // (10 if is_quick else 1)),
        "versions": {name: version(name) for name in PACKAGES} | locked_versions(),
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "seconds": round(time.monotonic() - started, 1),
    }
    publish(result, is_quick)


def read_forms() -> tuple[dict[str, list[str]], list[str]]:
    """Forms by what a passed test of tests/exports has shown of them, and the tests that failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        written = [f"--junitxml={report}", "-o", "junit_family=xunit1"]  # the one with properties
        command = [sys.executable, "-m", "pytest", "-q", "tests/exports", *written]
        subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    found: dict[str, set[str]] = defaultdict(set)
    failed = []
    for case in cases:
        if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
            failed.append(f"{case.get('classname')}.{case.get('name')}")
            continue
        for one in case.iter("property"):
            found[str(one.get("name"))] |= set(str(one.get("value")).split(","))
    return {kind: sorted(found[kind]) for kind in KINDS}, failed


def large_run(num_rows: int) -> dict[str, Any]:
    """Rows a second and peak memory of the command over a planted run, and of starting it alone."""
    with tempfile.TemporaryDirectory() as folder:
        run = planted_run(Path(folder) / "run", num_rows)
        idle, _ = export(run.root.address, "--help")
        seconds, peak = export(run.root.address, "--to", "trl", "-o", f"{folder}/out")
        written = json.loads((Path(folder) / "out" / "persyn-export.json").read_text())["rows"]
    return {
        "rows": written,
        "rows_per_second": round(written / (seconds - idle)),
        "peak_mib": round(peak),
        "shard_rows": SHARD_ROWS,
        "teachers": len(TEACHERS),
    }


def export(*arguments: str) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of one `persyn export`."""
    began = time.monotonic()
    command = [sys.executable, "-m", "persyn_ray.cli", "export", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.monotonic() - began, usage.ru_maxrss / 1024


def planted_run(root: Path, num_rows: int) -> RunLayout:
    """A run folder that has come as far as step synthesize; texts of some hundred letters."""
    recipe = planted_recipe(root, TEACHERS)
    run = run_of(recipe)
    shards = [shard_name(number) for number in range(num_rows // SHARD_ROWS)]
    splits = {"parallel": [], "heldout": [], "routed": shards}
    counts = {"splits": {"routed": num_rows}, "sharding": "0" * 16, "shards": splits}
    write_record(run.records, Record("prompts", "0" * 16, {}, {}, counts))
    for number, shard in enumerate(shards):
        plant(run, shard, number, {one.name: run.responses(one) for one in recipe.teachers})
    write_record(run.records, Record("synthesize", "0" * 16, {}, {}, {"rows": num_rows}))
    run.root.write_json("recipe.json", stored(recipe))
    return run


def plant(run: RunLayout, shard: str, number: int, responses: dict[str, Any]) -> None:
    """The tables of one shard."""
    rng = np.random.default_rng(number)
    ids = [f"{number:08x}{row:024x}" for row in range(SHARD_ROWS)]
    asked = [{"role": "user", "content": f"Question {one}: " + "what? " * 40} for one in ids]
    said = [f"Answer to {one}. " + "Because of this. " * 25 for one in ids]
    chosen = [TEACHERS[place] for place in rng.integers(len(TEACHERS), size=SHARD_ROWS)]
    same = {"reference": None, "task": None, "source": "planted", "split": "routed"}
    write(
        run.prompts,
        shard,
        [
            {"prompt_id": one, "messages": [turn]} | same
            for one, turn in zip(ids, asked, strict=True)
        ],
        PROMPTS,
    )
    pairs = list(zip(ids, chosen, asked, said, strict=True))
    key = [{"prompt_id": one, "teacher": teacher, "margin": 1.0} for one, teacher, _, _ in pairs]
    write(run.assignment(PERSYN), shard, key, ASSIGNMENT)
    logits = rng.normal(size=(SHARD_ROWS, len(TEACHERS))).tolist()
    able = [True] * len(TEACHERS)
    rows = [
        {"prompt_id": one, "logits": of, "candidates": able}
        for one, of in zip(ids, logits, strict=True)
    ]
    write(run.logits, shard, rows, logits_schema(TEACHERS))
    examples = []
    answered: dict[str, list[Any]] = {name: [] for name in TEACHERS}
    for one, teacher, turn, text in pairs:
        messages = [turn, {"role": "assistant", "content": text}]
        examples.append({"prompt_id": one, "teacher": teacher, "messages": messages})
        row = {"prompt_id": one, "teacher": teacher, "response": text, "finish_reason": "stop"}
        answered[teacher].append(row | {"num_prompt_tokens": 80, "num_tokens": 100, "error": None})
    write(run.examples(PERSYN), shard, examples, EXAMPLES)
    for name, of in answered.items():
        write(responses[name], f"{shard.partition('.')[0]}.0001-planted.parquet", of, RESPONSES)


def write(folder: Any, name: str, rows: list[Any], schema: pa.Schema) -> None:
    folder.write_table(name, pa.Table.from_pylist(rows, schema=schema))


def locked_versions() -> dict[str, str]:
    """Versions of the trainers, as requirements/exports/ names them."""
    found = {}
    for path in sorted((ROOT / "requirements" / "exports").glob("*.in")):
        for line in path.read_text().splitlines():
            name, _, number = line.partition("==")
            if name.replace("-", "_") == path.stem:
                found[name] = number
    return found


if __name__ == "__main__":
    main()
