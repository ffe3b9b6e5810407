"""A form of export: rows of a run in, files as one tool reads them out.

A form is one function `(rows, where, facts) -> Written`. It reads rows batch by batch, writes plain
files below the local folder `where`, and says what it has written; `export.py` does the rest.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypedDict

import pyarrow as pa

from persyn_ray.exports.on_policy.settings import OnPolicySettings
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.shards.provenance import Split
from persyn_ray.storage.folder import Folder

Message = dict[str, str]
"""A turn of a conversation: `role` and `content`."""


class Chance(TypedDict):
    """One candidate of a prompt, and the probability that the router gives it."""

    teacher: str
    probability: float


class RoutedRow(TypedDict):
    """A row of ROUTED as forms read it (`storage.schemas` says what its columns hold)."""

    id: str
    prompt_id: str
    messages: list[Message]
    teacher: str
    """Null in split heldout, of which no form asks it."""
    reward: float | None
    router_probabilities: list[Chance] | None
    margin: float | None
    novelty: float | None
    is_novel: bool | None
    task: str | None
    reference: str | None


class Rows(Protocol):
    """Where rows come from: a run (`shards.provenance.RoutedRows`), or a table in a test."""

    def batches(self, split: Split) -> Iterator[pa.RecordBatch]:
        """ROUTED rows of a split; rows of one prompt follow one another. May be asked again."""
        ...


@dataclass(frozen=True)
class Facts:
    """What a form may say of the run beside its rows."""

    name: str
    """The run's title, for people."""
    fingerprint: str
    """Of the step that made the rows, and so of all settings that shaped them."""
    student: StudentConfig
    teachers: tuple[TeacherConfig, ...]
    """In the pool's order."""
    finetune: FinetuneConfig
    think_tags: tuple[str, str]
    router: Folder
    """The fitted router."""
    on_policy: OnPolicySettings = field(default_factory=OnPolicySettings)
    """What the user says of teachers that score the student's tokens."""


@dataclass(frozen=True)
class Written:
    """What a form has written."""

    files: tuple[str, ...]
    """Paths below `where`, with forward slashes."""
    num_rows: int
    how: str
    """Markdown: how the tool is told of the files; commands are run in the folder."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows that the form cannot hold, by the reason in words."""


@dataclass(frozen=True)
class Form:
    """One entry of the list of forms."""

    name: str
    """As in `persyn export RUN --to NAME`."""
    tool: str
    """Who reads it, in words."""
    needs: str
    """The step of a run that leaves what it reads."""
    write: Callable[[Rows, Path, Facts], Written]


def records(rows: Rows, split: Split) -> Iterator[RoutedRow]:
    """Rows of a split one by one, as Python values."""
    for batch in rows.batches(split):
        yield from batch.to_pylist()
