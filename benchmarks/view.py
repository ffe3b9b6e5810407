"""How fast `persyn view` shows a large run, and in how much memory: a planted run in, times out.

Every teacher has answered every prompt, and every response has a reward: more than a run holds. The
first page is index.html, /api/run and the first 50 rows, asked for one after the other as soon as
the process takes connections; what comes after it has the index to wait for.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from planted_recipe import planted_recipe
from publishing import ROOT, publish

from persyn_ray.recipe.recipe import Recipe, stored
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.compaction import ROWS_PER_GROUP
from persyn_ray.storage.folder import shard_name
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.records import Record, utc_now, write_record
from persyn_ray.storage.schemas import (
    ASSIGNMENT,
    NOVELTY,
    PROMPTS,
    RESPONSES,
    logits_schema,
    rewards_schema,
)

pc: Any = compute  # its functions are made at import, where a type checker does not see them
NUM_PROMPTS, NUM_TEACHERS, SHARD_ROWS = 100_000, 10, 50_000
MILLION = (1_000_000, 3)
"""Prompts and teachers of the second entry, whose routed prompts are answered once, as in a run."""
SPLITS = {"parallel": 0.2, "routed": 0.8}
PROMPT_WORDS, RESPONSE_WORDS = 60, 250
"""Mean lengths; as of questions with their context, and of answers with their reasoning."""
WORDS = [f"{first}{second}" for first in "bdfglmnprst" for second in ("a", "e", "in", "or", "ust")]
RARE = "lighthouse"
"""A word of every thousandth prompt or so, to be searched for."""
GOALS = {"first_page_s": 1.0, "memory_mib": 500}


def main() -> None:
    """Plant a run, look at it, and print the figures as one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few prompts; writes no result")
    parser.add_argument(
        "--million", action="store_true", help="a million prompts; adds to the result on file"
    )
    options = parser.parse_args()
    num_prompts, num_teachers = MILLION if options.million else (NUM_PROMPTS, NUM_TEACHERS)
    figures = measured_run(num_prompts // 20 if options.quick else num_prompts, num_teachers)
    file = ROOT / "benchmarks" / "results" / "view.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if options.million:
        result = {"name": "view", **known, "million": figures}
    else:
        result = {"name": "view", **figures, "goals": GOALS}
        result |= {name: known[name] for name in ("million",) if name in known}
    publish(result, options.quick)


def measured_run(num_prompts: int, num_teachers: int) -> dict[str, Any]:
    """Figures of a planted run of a size, and what they were measured on."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = planted_run(Path(folder) / "run", num_prompts, num_teachers)
        planted_s = time.monotonic() - started
        # Once over, so that the packages' own files are read from memory, as at a second start.
        figures = [looked_at(run.root.address) for _ in range(2)][-1]
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        **figures,
        "prompts": num_prompts,
        "teachers": num_teachers,
        "run_mib": round(size / 2**20),
        "planted_s": round(planted_s, 1),
        "hardware": {"cpus": os.cpu_count(), "machine": platform.machine()},
        "load_average": [round(one, 1) for one in os.getloadavg()],
        "seconds": round(time.monotonic() - started, 1),
    }


def looked_at(address: str) -> dict[str, Any]:
    """Start the viewer, ask for one thing after the other, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "persyn_ray.cli", "view", address, "--no-open"]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=sys.stderr)
    try:
        wait_for(port, process)
        ready = time.monotonic()
        ask(port, "/")
        ask(port, "/api/run")
        first = ask(port, "/api/prompts?offset=0&limit=50")
        shown = time.monotonic()
        assert len(first["rows"]) == 50, first
        idle_mib = memory_mib(process.pid)
        while ask(port, "/api/now")["teachers"][-1]["answered"] is None:
            time.sleep(0.05)
        indexed = time.monotonic()
        later = later_times(port, first["rows"][7]["prompt_id"])
        return {
            "first_page_s": round(shown - ready, 3),
            "memory_mib": round(memory_mib(process.pid)),
            "memory_at_first_page_mib": round(idle_mib),
            "server_start_s": round(ready - began, 2),
            "start_to_first_page_s": round(shown - began, 2),
            "index_s": round(indexed - ready, 2),
            **later,
        }
    finally:
        process.terminate()
        process.wait(timeout=30)


def later_times(port: int, prompt_id: str) -> dict[str, float]:
    """Seconds of what is asked for once the index is there."""
    found = {}
    for name, where in {
        "second_page_s": "/api/prompts?offset=50&limit=50",
        "last_page_s": "/api/prompts?sort=-best_reward&offset=5000&limit=50",
        "filter_s": "/api/prompts?flag=disagree&task=task-3&sort=-margin",
        "search_s": "/api/prompts?search=" + RARE,
        "prompt_s": f"/api/prompts/{prompt_id}",
        "teachers_s": "/api/teachers",
        "now_s": "/api/now",
        "dead_letters_s": "/api/dead-letters",
    }.items():
        began = time.monotonic()
        ask(port, where)
        found[name] = round(time.monotonic() - began, 3)
    return found


def ask(port: int, where: str) -> Any:
    """The answer to one request; text where it is no JSON."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{where}", timeout=600) as reply:
        body = reply.read()
    return json.loads(body) if where.startswith("/api") else body


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as connections are taken."""
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise RuntimeError(f"persyn view ended with {process.returncode}")


def memory_mib(pid: int) -> float:
    """The most memory that a process has had so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def planted_run(root: Path, num_prompts: int, num_teachers: int) -> RunLayout:
    """A run folder that has come as far as step synthesize."""
    names = [f"teacher-{number}" for number in range(num_teachers)]
    recipe = planted_recipe(root, names)
    run = run_of(recipe)
    shards: dict[str, list[str]] = {"parallel": [], "heldout": [], "routed": []}
    counts = {split: round(num_prompts * share) for split, share in SPLITS.items()}
    sizes = [
        (split, min(SHARD_ROWS, count - start))
        for split, count in counts.items()
        for start in range(0, count, SHARD_ROWS)
    ]
    for number, (split, _) in enumerate(sizes):
        shards[split].append(shard_name(number))
    result = {"splits": counts | {"heldout": 0}, "sharding": "0" * 16, "shards": shards}
    write_record(run.records, Record("prompts", "0" * 16, {}, {}, result, 1.0, utc_now()))
    for number, (split, num_rows) in enumerate(sizes):
        plant(run, recipe, number, split, num_rows, num_prompts <= NUM_PROMPTS)
    for step in ("collect", "score", "rewards", "router", "route", "synthesize"):
        write_record(run.records, Record(step, "0" * 16, {}, {}, {"rows": 1}, 1.0, utc_now()))
    run.root.write_json("recipe.json", stored(recipe))
    return run


def plant(
    run: RunLayout, recipe: Recipe, number: int, split: str, num_rows: int, is_whole: bool
) -> None:
    """All tables of one shard; if not whole, routed prompts have one response and no reward."""
    names = recipe.pool.names
    rng, shard = np.random.default_rng(number), shard_name(number)
    ids = pa.array([f"{number:08x}{row:024x}" for row in range(num_rows)])
    texts = written(rng, ids, PROMPT_WORDS)
    turns = pa.StructArray.from_arrays(
        [pa.array(["user"] * num_rows), texts], names=["role", "content"]
    )
    tasks = pa.array([f"task-{code}" for code in rng.integers(8, size=num_rows)])
    columns = {"prompt_id": ids, "messages": pa.ListArray.from_arrays(range(num_rows + 1), turns)}
    columns |= {"reference": pa.nulls(num_rows, pa.string()), "task": tasks}
    columns |= {"source": pa.array(["planted"] * num_rows), "split": pa.array([split] * num_rows)}
    write(run.prompts, shard, columns, PROMPTS)
    logits_PM = rng.normal(size=(num_rows, len(names)))
    best_P = logits_PM.argmax(axis=1)
    top_P2 = np.sort(logits_PM, axis=1)[:, -2:]
    chosen = pa.array(names).take(pa.array(best_P))
    margin = {"prompt_id": ids, "teacher": chosen, "margin": top_P2[:, 1] - top_P2[:, 0]}
    write(run.assignment(PERSYN), shard, margin, ASSIGNMENT)
    able = pa.array(np.ones(logits_PM.size, np.bool_))
    columns = {"prompt_id": ids, "logits": listed(logits_PM)}
    columns |= {"candidates": pa.FixedSizeListArray.from_arrays(able, len(names))}
    write(run.logits, shard, columns, logits_schema(names))
    distance_P = rng.random(num_rows)
    columns = {"prompt_id": ids, "distance": distance_P, "is_novel": distance_P > 0.9}
    write(run.novelty, shard, columns, NOVELTY)
    signals = {"learnability": -rng.random(logits_PM.shape), "rewards": rng.random(logits_PM.shape)}
    signals["quality"] = rng.integers(2, size=logits_PM.shape).astype(np.float64)
    columns = {"prompt_id": ids} | {name: listed(of) for name, of in signals.items()}
    write(run.rewards, shard, columns, rewards_schema(names))
    if split == "routed" and not is_whole:
        run.rewards.remove(shard)
    for m, teacher in enumerate(recipe.teachers):
        asked = ids if is_whole or split == "parallel" else ids.filter(pa.array(best_P == m))
        plant_responses(run, teacher, shard, asked, rng)


def plant_responses(
    run: RunLayout, teacher: TeacherConfig, shard: str, ids: pa.Array, rng: Any
) -> None:
    """One teacher's responses to a shard, as compaction leaves them."""
    name, num_rows = teacher.name, len(ids)
    reasons = pa.array(["stop", "length", "loop", "error"])
    ended = reasons.take(pa.array(rng.choice(4, size=num_rows, p=[0.93, 0.05, 0.01, 0.01])))
    lengths = rng.integers(50, 900, size=num_rows)
    columns = {"prompt_id": ids, "teacher": pa.array([name] * num_rows)}
    columns |= {"response": written(rng, ids, RESPONSE_WORDS), "finish_reason": ended}
    columns |= {"num_prompt_tokens": lengths // 5, "num_tokens": lengths}
    columns |= {"error": pa.nulls(num_rows, pa.string())}
    part = f"{shard.partition('.')[0]}.0001-planted.parquet"
    write(run.responses(teacher), part, columns, RESPONSES)


def written(rng: Any, ids: pa.Array, mean_words: int) -> pa.Array:
    """Texts of some words, each different from all others."""
    words = np.array(WORDS)
    lengths = rng.gamma(2.0, mean_words / 2, size=512).astype(int) + 5
    passages = pa.array(
        [
            " ".join([*rng.choice(words, size=length), *([RARE] if n == 0 else [])])
            for n, length in enumerate(lengths)
        ]
    )
    picked = [passages.take(pa.array(rng.integers(512, size=len(ids)))) for _ in range(2)]
    halves = [pc.utf8_slice_codeunits(one, 0, 3 * mean_words) for one in picked]
    return pc.binary_join_element_wise(halves[0], ids, picked[1], " ")


def listed(values_PM: Any) -> pa.Array:
    """A matrix as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values_PM.ravel()), values_PM.shape[1])


def write(folder: Any, name: str, columns: dict[str, Any], schema: pa.Schema) -> None:
    table = pa.table([pa.array(columns[one]) for one in schema.names], names=schema.names)
    folder.write_table(name, table.cast(schema), ROWS_PER_GROUP)


if __name__ == "__main__":
    main()
