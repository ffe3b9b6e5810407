"""Starting and resuming steps collect and synthesize at a million prompts and 19 teachers.

No teacher writes anything here: tables are laid down as a run would have left them, and what is
measured is what the driver does before the first batch goes out, with the project's own code, each
time in a process of its own: reading, splitting and writing prompts (which the student and the
router read once through their chat templates); then looking for damage, the forecast, the open rows
and their batches, with nothing stored (`start`) and with nine of ten responses stored (`resume`).
Compaction is measured on parts as group commit leaves them.

    python -m streaming_parts.scale FOLDER RUN PROMPTS WHAT      (one such process)
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
import yaml

from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.shards.compaction import MOST_ROWS, compact
from persyn_ray.shards.part_files import SHARD, part_name, parts_in
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.schemas import ASSIGNMENT, RESPONSES

pc: Any = compute
TEACHERS = 19
STEPS = ("collect", "synthesize")
WORDS = "The answer to this one is what it was before, and a little more of the same. "
RESPONSE = WORDS * 3
ROWS_OF_A_PART = 4096
SHARE_STORED = 0.9
BUCKET = "bucket"
Figures = dict[str, Any]


def recipe_at(folder: Path, run: str, num_prompts: int) -> Recipe:
    """A recipe over made prompts; every teacher is an endpoint, so that each has its own pool."""
    endpoint = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    settings = {
        "run": run,
        "prompts": {
            "path": str(folder / "prompts.jsonl"),
            "num_parallel": num_prompts // 20,
            "reference_column": "answer",
        },
        "teachers": [
            {
                "name": f"teacher-{n:02d}",
                "engine": endpoint | {"api_key_env": None},
                "resources": {"gpus": 0, "cpus": 0},
            }
            for n in range(TEACHERS)
        ],
        "student": {"name": "random:llama"},
        "router": {"backbone": {"name": "random:llama"}},
        "scoring": {"quality": {"kind": "exact_match"}},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load_recipe(path)


def write_prompts_file(path: Path, num_prompts: int) -> None:
    """A file of prompts that all differ."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(num_prompts):
            row = {"prompt": f"What is {n}? {WORDS * 2}", "answer": str(n)}
            file.write(json.dumps(row) + "\n")


def assign(run: RunLayout, teachers: list[str]) -> None:
    """PerSyn's assignment of every prompt of a run, drawn evenly."""
    draw = np.random.default_rng(0)
    for shard in shards_of(run, "parallel", "routed"):
        ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
        names = pa.array([teachers[n] for n in draw.integers(len(teachers), size=len(ids))])
        columns = {"prompt_id": ids, "teacher": names, "margin": pa.array(np.ones(len(ids)))}
        run.assignment(PERSYN).write_table(shard, pa.table(columns).cast(ASSIGNMENT))


def responses_to(ids: pa.ChunkedArray | pa.Array, teacher: str) -> pa.Table:
    """RESPONSES of a teacher to some prompts, all alike."""
    num = len(ids)
    columns = {
        "prompt_id": ids,
        "teacher": pa.array([teacher] * num),
        "response": pa.array([RESPONSE] * num),
        "finish_reason": pa.array(["stop"] * num),
        "num_prompt_tokens": pa.array(np.full(num, 30)),
        "num_tokens": pa.array(np.full(num, 60)),
        "error": pa.nulls(num, pa.string()),
    }
    return pa.table({name: columns[name] for name in RESPONSES.names}).cast(RESPONSES)


def answered(recipe: Recipe, run: RunLayout, step: str) -> Iterator[tuple[str, str, pa.Array]]:
    """Shard, teacher and ids of all that a step asks for."""
    splits = ("parallel",) if step == "collect" else ("routed",)
    for shard in shards_of(run, *splits):
        assigned = run.assignment(PERSYN).read_table(shard, ["prompt_id", "teacher"])
        for teacher in recipe.pool.names:
            ids = assigned["prompt_id"].combine_chunks()
            if step == "synthesize":
                ids = ids.filter(pc.equal(assigned["teacher"].combine_chunks(), teacher))
            yield shard, teacher, ids


def leave_responses(recipe: Recipe, run: RunLayout, step: str, rows: int, share: float) -> None:
    """Parts of `rows` rows, as group commit leaves them, with a share of a step's responses."""
    waiting: dict[str, list[pa.Table]] = {name: [] for name in recipe.pool.names}
    counts, folders = dict.fromkeys(waiting, 1), {t.name: run.responses(t) for t in recipe.teachers}

    def write(teacher: str, is_last: bool) -> None:
        table = pa.concat_tables(waiting[teacher])
        while table.num_rows >= rows or (is_last and table.num_rows):
            part, table = table.slice(0, rows), table.slice(rows)
            shards = part[SHARD.name].unique().to_pylist()
            if len(shards) == 1:
                part = part.drop_columns([SHARD.name])
            name = part_name(shards, counts[teacher], "made")
            folders[teacher].write_table(name, part)
            counts[teacher] += 1
        waiting[teacher] = [table]

    for shard, teacher, ids in answered(recipe, run, step):
        table = responses_to(ids.slice(0, round(share * len(ids))), teacher)
        number = pa.array([int(shard[6:12])] * table.num_rows, SHARD.type)
        waiting[teacher].append(table.append_column(SHARD, number))
        write(teacher, False)
    for teacher in waiting:
        if waiting[teacher]:
            write(teacher, True)


def laid_down(recipe: Recipe) -> Figures:
    """Step prompts: the file read, split and written in shards; a record, and an assignment."""
    from persyn_ray.pipeline.load_prompts import write_prompts
    from persyn_ray.storage.records import Record, write_record

    run, clock = run_of(recipe), Clock()
    found = clock("prompts", lambda: write_prompts(recipe, run))
    write_record(run.records, Record("prompts", "made", {}, {}, found.model_dump(mode="json")))
    figures = clock.seconds | {"peak_gib": peak_gib()}
    assign(run, list(recipe.pool.names))
    return figures


def prepared(recipe: Recipe, step: str) -> Figures:
    """What the driver does before the first batch of a step goes out; seconds of each part."""
    from persyn_ray.pipeline.collect import Wanted, actor_groups, open_rows
    from persyn_ray.pipeline.integrity.recovery import find_damage
    from persyn_ray.pipeline.plan.forecasts.expected_lengths import RowOrder
    from persyn_ray.pipeline.plan.forecasts.known import forecast_settings
    from persyn_ray.pipeline.plan.forecasts.steps import write_forecast

    run, clock, teachers = run_of(recipe), Clock(), recipe.teachers
    damage = clock("find_damage", lambda: list(find_damage(run, teachers, recipe.compare)))
    assert not damage
    clock("forecast", lambda: write_forecast(forecast_settings(recipe), run, step))
    methods = None if step == "collect" else (PERSYN,)
    wanted = Wanted(teachers, run, methods, recipe.prompts.seed)
    shards = shards_of(run, "parallel" if step == "collect" else "routed")
    rows = clock("open_rows", lambda: open_rows(teachers, run, shards, wanted))
    build: Any = partial(dict)
    shared = getattr(recipe.resources, step)
    of_rows = partial(actor_groups, teachers, rows, shared, {}, build, build, order=RowOrder(run))
    groups = clock("batches", of_rows)
    open_in_all = sum(len(places) for of in rows.values() for places in of.values())
    return clock.seconds | {
        "seconds": round(sum(clock.seconds.values()), 2),
        "peak_gib": peak_gib(),
        "rows_open": open_in_all,
        "batches": sum(len(group.units) for group in groups),
    }


def put_together(recipe: Recipe) -> Figures:
    """Every teacher's table compacted: how long the slowest takes, and files before and after."""
    run, clock = run_of(recipe), Clock()
    before = {t.name: len(parts_in(run.responses(t))) for t in recipe.teachers}
    after = {t.name: clock(t.name, lambda t=t: compact(run.responses(t))) for t in recipe.teachers}
    rows = {
        t.name: sum(run.responses(t).num_rows(p.name) for p in parts_in(run.responses(t)))
        for t in recipe.teachers
    }
    bound = {name: -(-num // MOST_ROWS) + 1 for name, num in rows.items()}
    return {
        "seconds_slowest_table": max(clock.seconds.values()),
        "seconds_one_after_the_other": round(sum(clock.seconds.values()), 2),
        "peak_gib": peak_gib(),
        "rows": sum(rows.values()),
        "files_before": sum(before.values()),
        "files_after": sum(after.values()),
        "most_files_over_bound": round(max(after[name] / bound[name] for name in after), 3),
    }


def peak_gib() -> float:
    """Most memory that this process has had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


class Clock:
    """Seconds of named calls."""

    def __init__(self) -> None:
        self.seconds: Figures = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        began = time.monotonic()
        found = call()
        self.seconds[name] = round(time.monotonic() - began, 2)
        return found


def measure(is_quick: bool) -> Figures:
    """All sizes on a local disk and on S3 (a moto server of this machine)."""
    sizes = (2_000, 4_000) if is_quick else (100_000, 1_000_000)
    found: Figures = {"teachers": TEACHERS, "share_stored_when_resumed": SHARE_STORED}
    for num in sizes:
        with TemporaryDirectory() as name:
            found[f"local_{num}"] = measured_at(Path(name), f"{name}/run", num)
    with TemporaryDirectory() as name, s3_server():
        found[f"s3_{sizes[0]}"] = measured_at(Path(name), f"s3://{BUCKET}/run", sizes[0])
    small, large = (found[f"local_{num}"] for num in sizes)
    times_rows = sizes[1] / sizes[0]
    found["growth_over_linear"] = round(
        max(large[key] / small[key] / times_rows for key in ("start_seconds", "resume_seconds")), 3
    )
    return found | {key: large[key] for key in ("start_seconds", "resume_seconds", "peak_gib")}


def measured_at(folder: Path, run: str, num_prompts: int) -> Figures:
    """One size in one place; the file of prompts is on this machine."""
    write_prompts_file(folder / "prompts.jsonl", num_prompts)
    found: Figures = {"prompts": in_process(folder, run, num_prompts, "prompts")}
    for state in ("start", "resume"):
        for step in STEPS:
            found[f"{state}_{step}"] = in_process(folder, run, num_prompts, step)
        if state == "start":
            in_process(folder, run, num_prompts, "answer")
            found["compaction"] = in_process(folder, run, num_prompts, "compact")
    of = {
        state: max(found[f"{state}_{s}"]["seconds"] for s in STEPS) for state in ("start", "resume")
    }
    return found | {
        # A start reads the prompts as well; a resumed run finds them.
        "start_seconds": round(found["prompts"]["prompts"] + of["start"], 2),
        "resume_seconds": of["resume"],
        "peak_gib": max(one["peak_gib"] for one in found.values()),
    }


def in_process(folder: Path, run: str, num_prompts: int, what: str) -> Figures:
    """One measurement in a process of its own, whose memory is its own."""
    command = [sys.executable, "-m", "streaming_parts.scale", str(folder), run]
    done = subprocess.run(
        [*command, str(num_prompts), what],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def s3_server() -> Iterator[None]:
    """An S3 server of this machine with an empty bucket, found through the usual variables."""
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "made",
        "AWS_SECRET_ACCESS_KEY": "made",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    try:
        yield
    finally:
        moto.stop()


def main() -> None:
    """What a process of its own measures, as the last line of its output."""
    folder, run, num_prompts, what = sys.argv[1:]
    prompts = Path(folder) / "prompts.jsonl"
    if not prompts.exists():
        write_prompts_file(prompts, int(num_prompts))
    recipe = recipe_at(Path(folder), run, int(num_prompts))
    if what == "prompts":
        found = laid_down(recipe)
    elif what == "answer":
        for step in STEPS:
            leave_responses(recipe, run_of(recipe), step, ROWS_OF_A_PART, SHARE_STORED)
        found = {}
    elif what == "compact":
        found = put_together(recipe)
    else:
        found = prepared(recipe, what)
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Of the whole process, imports included; it does not grow with what else the machine does.
    print(json.dumps(found | {"cpu_seconds": round(used.ru_utime + used.ru_stime, 2)}))


if __name__ == "__main__":
    main()
