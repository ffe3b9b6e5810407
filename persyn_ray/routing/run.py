"""Routes a table of prompts with a saved router, without a recipe: files in; a parquet file with a
teacher a row out.

What is done so far lies in the folder `OUT.parts` (`parts.py`): after an end of any kind the same
command goes on, with other limits or another seed as well. It is removed at the end.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from persyn_ray.data.files.rows import expand, require
from persyn_ray.data.files.stretches import columns_at_start
from persyn_ray.errors import ConfigError
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.recipe.limits import AssignmentConfig
from persyn_ray.recipe.recipe import parse_recipe
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.routing.assemble import Routed, assemble, refuse_clashes
from persyn_ray.routing.choose import NO_LIMITS, Rule
from persyn_ray.routing.parts import PROMPT_SETTINGS, TableJob, claim
from persyn_ray.routing.score import ScoreParts
from persyn_ray.routing.split import COLUMN, SplitTable
from persyn_ray.runtime.session import Cluster
from persyn_ray.runtime.table_stream import stream_units
from persyn_ray.serving.router_model import content_of
from persyn_ray.serving.router_source import settings_of
from persyn_ray.shards.units import Progress
from persyn_ray.storage.folder import Folder

USUAL = ("prompt", "messages", "conversations", "instruction", "question", "problem")
"""Columns that hold the prompt where nothing is said."""
SOURCES = "TABLE"
TASK = "--task"
LINE_SECONDS = 30.0


@dataclass(frozen=True)
class Asked:
    """What a user says about prompts and assignment; None leaves it to the router's run."""

    column: str | None = None
    template: str | None = None
    system_prompt: str | None = None
    task: str | None = None
    masked: tuple[str, ...] = ()
    limits: AssignmentConfig = NO_LIMITS
    seed: int = 0
    prefix: str = ""


@dataclass(frozen=True)
class Prepared:
    """A table that can be routed: everything was looked at that needs no model."""

    job: TableJob
    rule: Rule
    out: str
    prefix: str


def prepare(source: str, tables: list[str], out: str, asked: Asked) -> Prepared:
    """Look at router, table and limits; nothing is written yet.

    Args:
        source: a run folder, whose recipe says how its router was asked, or a router's folder.

    Raises:
        ConfigError: there is no router, no file, no column, or a limit is on nobody.
    """
    if not out.endswith(".parquet"):
        raise ConfigError(f"-o is {out!r}; it must end in .parquet, the form that is written.")
    place, _, name = Folder.absolute(out).address.rpartition("/")
    if Folder(place or "/").exists(name):
        raise ConfigError(f"{out} is there already: remove it, or give another -o.")
    address, settings = settings_of(source)
    config = Folder(address).read_json("config.json")
    rule = Rule(
        tuple(config["teachers"]),
        tuple(dict.fromkeys((*settings.masked, *asked.masked))),
        asked.limits,
        asked.seed,
        config.get("loss") == "regression",
    )
    files = tuple(expand(tables, SOURCES))
    section = _prompts(source, files, asked)
    for file in files:
        refuse_clashes(columns_at_start(file), asked.prefix)
    work = Folder(f"{place}/{name}.parts")
    return Prepared(TableJob(address, files, section, work), rule, out, asked.prefix)


def route_table(prepared: Prepared, resources: StepResourcesConfig, console: Console) -> Routed:
    """Score what has no scores yet, assign all rows, write the table.

    Raises:
        ConfigError: the folder of parts is another table's, or limits cannot be kept.
        StepError: a file or a part could not be carried through.
    """
    job = prepared.job
    claim(job, content_of(job.router))
    done = stream_units(
        [{"shard": str(number)} for number in range(len(job.files))],
        SplitTable(job),
        partial(ScoreParts, job),
        resources,
        "Routing",
    )
    _follow(done, console)
    routed = assemble(job, prepared.rule, prepared.out, prepared.prefix)
    job.work.remove()
    return routed


def resources_of(
    cluster: Cluster, workers: int | None, cpus: float | None, gpus: float | None
) -> StepResourcesConfig:
    """What the pool takes: by default a GPU a worker, or one worker with a node's CPUs.

    Raises:
        ConfigError: the cluster cannot hold it.
    """
    gpus = (1.0 if cluster.gpus else 0.0) if gpus is None else gpus
    workers = workers or (max(1, int(cluster.gpus // gpus)) if gpus else 1)
    if cpus is None:
        cpus = 1.0 if gpus else max(1.0, cluster.cpus // workers)
        cpus = min(cpus, max(1.0, cluster.largest_node_cpus))
    for what, asked, have in (("CPUs", cpus, cluster.cpus), ("GPUs", gpus, cluster.gpus)):
        if workers * asked > have:
            raise ConfigError(
                f"{workers} workers with {asked:g} {what} each do not fit into {have:g} {what}: "
                "set --workers, --cpus or --gpus."
            )
    threads = max(1, int(cpus))
    given = {"actors": workers, "cpus": cpus, "gpus": gpus, "threads": threads}
    return StepResourcesConfig.model_validate(given)


def _prompts(source: str, files: tuple[str, ...], asked: Asked) -> PromptsConfig:
    """How rows become prompts: as asked, else as the run's recipe has it, else plainly."""
    folder, said = Folder.absolute(source), dict[str, Any]()
    if folder.exists("recipe.json"):
        recipe = parse_recipe(folder.read_json("recipe.json"), f"{source}/recipe.json")
        said = recipe.prompts.model_dump(include=set(PROMPT_SETTINGS))
    given = {"template": asked.template, "system_prompt": asked.system_prompt}
    said |= {name: value for name, value in given.items() if value is not None}
    of_files = ((file, columns_at_start(file)) for file in files)
    first, present = next((one for one in of_files if one[1]), (files[0], []))  # others are empty
    said["column"] = asked.column or _column(said.get("column"), present, first)
    if asked.column is not None and first.endswith(".parquet"):
        require([asked.column], present, first, COLUMN)
    said["task_column"] = _task_column(asked.task, said.get("task_column"), present, first)
    if "{prompt}" not in said.get("template", "{prompt}"):
        raise ConfigError("--template needs {prompt} where the text goes.")
    return PromptsConfig(path=files, **said)


def _task_column(
    asked: str | None, of_recipe: str | None, present: list[str], file: str
) -> str | None:
    """The column of labels: as asked, or the run's own where the table has it."""
    if asked is None:
        return of_recipe if of_recipe in present else None
    require([asked], present, file, TASK)
    return asked


def _column(of_recipe: str | None, present: list[str], file: str) -> str:
    if of_recipe is not None and of_recipe in present:
        return of_recipe
    found = [name for name in USUAL if name in present]
    if len(found) == 1:
        return found[0]
    what = f"several that may hold the prompt: {found}" if found else f"none of {list(USUAL)}"
    raise ConfigError(f"{file} has {what}; its columns are {present}. Set {COLUMN}.")


def _follow(done: Iterable[Progress], console: Console) -> Progress:
    """Show rows and rows per second while they come."""
    total, started = Progress(), time.monotonic()
    last = started
    columns = (SpinnerColumn(), TextColumn("routing  {task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("the router is loaded", total=None)
        for part in done:
            total += part
            now = time.monotonic()
            told = f"{total.rows:,} rows, {total.rows / (now - started):,.0f} rows/s"
            bar.update(task, description=told)
            if not console.is_terminal and now - last > LINE_SECONDS:
                last = now
                console.print(f"  {told}", highlight=False)
    return total
