"""The work folder of a table that is being routed: what is asked for in, paths and checks out.

    OUT.parts/plan.json             what the parts are made of; another plan is refused
    OUT.parts/rows/PART.parquet     the table's own columns, so many rows a part
    OUT.parts/prompts/PART.parquet  number, prompt_id, messages, and why a row is no prompt
    OUT.parts/scores/PART.parquet   number, logits, novelty, and why the router could not read it
    OUT.parts/columns/PART.json     what of a part's columns is JSON text made here
    OUT.parts/whole/FILE.json       written when a file has been split: how many parts it has

A part is a stretch of one file, so the parts in the order of their names are the table. Limits and
seed are no part of the plan: other ones assign the same scores anew.
"""

from dataclasses import dataclass
from functools import cached_property

import fsspec
import pyarrow as pa

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.schemas import MESSAGES

ROWS = 2048
"""Of a part: enough to sort prompts into batches by their length, little to do twice."""
PLAN = "plan.json"
PROMPT_SETTINGS = ("column", "task_column", "template", "system_prompt")
"""Of the section `prompts`: what determines a row's prompt."""
PROMPT_PARTS = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),  # of the row in its file
        pa.field("prompt_id", pa.string()),
        pa.field("messages", MESSAGES),
        pa.field("task", pa.string()),  # its label, where the table has one
        pa.field("reason", pa.string()),  # why it is no prompt
        pa.field("detail", pa.string()),
    ]
)


def score_parts(num_teachers: int) -> pa.Schema:
    """What the router makes of a part's prompts; nulls where it could not read one."""
    return pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("logits", pa.list_(pa.float64(), num_teachers)),
            pa.field("distance", pa.float64()),
            pa.field("is_novel", pa.bool_()),
            pa.field("reason", pa.string()),
            pa.field("detail", pa.string()),
        ]
    )


@dataclass(frozen=True)
class TableJob:
    """A table to route, and the router; picklable, the same for every worker."""

    router: str
    """Address of the router's folder."""
    files: tuple[str, ...]
    prompts: PromptsConfig
    """Which column holds the prompt, and how plain text becomes a conversation."""
    work: Folder
    rows: int = ROWS

    @cached_property
    def table_rows(self) -> Folder:
        return self.work / "rows"

    @cached_property
    def table_prompts(self) -> Folder:
        return self.work / "prompts"

    @cached_property
    def scores(self) -> Folder:
        return self.work / "scores"

    @cached_property
    def whole(self) -> Folder:
        return self.work / "whole"

    def part(self, file: int, number: int) -> str:
        """Name of a part: names sort as the table's rows do."""
        return f"{file:05d}-{number:07d}.parquet"

    def parts_of(self, file: int) -> list[str] | None:
        """The parts of a file that has been split; None before."""
        name = f"{file:05d}.json"
        if not self.whole.exists(name):
            return None
        return [self.part(file, number) for number in range(self.whole.read_json(name))]

    def all_parts(self) -> list[str]:
        """Every part, in the order of the table."""
        found = [self.parts_of(file) for file in range(len(self.files))]
        return [part for parts in found for part in parts or ()]


def claim(job: TableJob, router_content: str) -> None:
    """Say what the work folder is for, or go on where its plan is the same.

    Raises:
        ConfigError: it holds the parts of something else.
    """
    plan = plan_of(job, router_content)
    if not job.work.exists(PLAN):
        if job.work.exists() and job.work.names():
            raise ConfigError(
                f"{job.work.address} is there and holds no parts of a routed table: remove it, or "
                "give another -o."
            )
        job.work.write_json(PLAN, plan)
        return
    there = job.work.read_json(PLAN)
    differing = sorted(name for name in plan if plan[name] != there.get(name))
    if differing:
        raise ConfigError(
            f"{job.work.address} holds what is done of the same -o with another "
            f"{', '.join(differing)}: remove that folder to start anew, or give another -o."
        )


def plan_of(job: TableJob, router_content: str) -> dict[str, object]:
    """All that determines the parts."""
    prompts = job.prompts.model_dump(mode="json", include=set(PROMPT_SETTINGS))
    return {
        "router": [job.router, router_content],
        "files": [[file, _content_of(file)] for file in job.files],
        "rows": job.rows,
        **prompts,
    }


def _content_of(file: str) -> str:
    """Changes when a file does, as far as its storage tells without reading it."""
    fs, path = fsspec.core.url_to_fs(file)
    info = fs.info(path)
    names = ("size", "mtime", "LastModified", "ETag", "etag", "updated")
    return repr([str(info[name]) for name in names if name in info])
