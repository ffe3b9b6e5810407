"""Checks of the prompts: a recipe in; files, columns, references and split as findings out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import pyarrow as pa

from persyn_ray.engines.base import Message
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.check.findings import Finding
from persyn_ray.pipeline.load_prompts import read_prompts
from persyn_ray.pipeline.plan.prompt_counts import is_on_hub, without_network
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import ScoringConfig, needs_reference
from persyn_ray.report.concerns import FEW_PROMPTS
from persyn_ray.report.numbers import count

MOST_READ = 1000
"""Prompts that templates are tried on here; the run tries all of them."""
NUM_SAMPLES = 3


@dataclass
class Prompts:
    """Prompts that later checks try models on; empty until they are read."""

    conversations: list[list[Message]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where each stands, for people."""
    references: list[str | None] = field(default_factory=list)

    @property
    def samples(self) -> list[tuple[str, list[Message]]]:
        """The first few, each with its place."""
        found = zip(self.places, self.conversations, strict=True)
        return list(found)[:NUM_SAMPLES]


def check_prompts(recipe: Recipe, offline: bool, found: Prompts) -> Iterator[Finding]:
    """Read all prompts as step prompts will, but for templates; `found` is filled with the first.

    Raises:
        ConfigError, DataError: step prompts would fail.
    """
    on_hub = is_on_hub(recipe.prompts, recipe.evaluate)
    try:
        with without_network() if offline and on_hub else nullcontext():
            loaded = read_prompts(recipe)
    except ConfigError:
        if not (offline and on_hub):
            raise
        text = "They are on the hub and not on this machine: not looked at (--offline)."
        yield Finding("prompts", "remark", text)
        return
    first = loaded.prompts.first(MOST_READ)
    found.conversations.extend(first["messages"].to_pylist())
    found.references.extend(first["reference"].to_pylist())
    rows = zip(first["source"].to_pylist(), first["prompt_id"].to_pylist(), strict=True)
    found.places.extend(f"{source}, prompt {name[:8]}" for source, name in rows)
    splits = loaded.prompts.counts
    yield _split(recipe.prompts, splits, loaded.num_duplicates)
    yield from _lost(loaded.dead)
    yield _references(recipe.scoring, recipe.prompts, loaded.prompts.table)
    yield from _sizes(splits)


def _split(section: PromptsConfig, splits: dict[str, int], num_duplicates: int) -> Finding:
    columns = [section.column, section.reference_column, section.task_column]
    named = ", ".join(column for column in columns if column is not None)
    shared = ", ".join(f"{count(number)} {split}" for split, number in splits.items())
    twice = f"; {count(num_duplicates)} duplicates count once" if num_duplicates else ""
    total = count(sum(splits.values()))
    where = section.path if isinstance(section.path, str) else ", ".join(section.path)
    detail = f"{total} in {where} (columns {named}): {shared}{twice}."
    return Finding("prompts", "ok", detail)


def _lost(dead: pa.Table) -> Iterator[Finding]:
    """Rows that become dead letters."""
    if not dead.num_rows:
        return
    reasons = Counter(map(str, dead["reason"].to_pylist())).most_common()
    told = ", ".join(f"{reason} {count(number)}" for reason, number in reasons)
    first = str(dead["detail"][0].as_py())
    text = f"{count(dead.num_rows)} rows will be left out ({told}). The first: {first}"
    yield Finding("prompts", "remark", text, "Mend these rows, or go on without them.")


def _references(scoring: ScoringConfig, section: PromptsConfig, table: pa.Table) -> Finding:
    kind = scoring.quality.kind
    if not needs_reference(scoring.quality):
        return Finding("references", "ok", f"Quality {kind} compares with none.")
    known = table.num_rows - table["reference"].null_count
    column = section.reference_column
    return Finding("references", "ok", f"{kind} can read {count(known)} in column {column!r}.")


def _sizes(splits: dict[str, int]) -> Iterator[Finding]:
    """Splits that are too small to tell anything."""
    parallel, heldout = splits["parallel"], splits["heldout"]
    if parallel < FEW_PROMPTS:
        text = f"A router learns next to nothing from {count(parallel)} parallel prompts."
        yield Finding("prompts", "remark", text, "Raise prompts.num_parallel.")
    if not heldout:
        text = "No prompt is held out, so no student is evaluated."
        fix = "Set prompts.num_heldout, or evaluate.path to a file of its own."
        yield Finding("prompts", "remark", text, fix)


def as_sent(messages: Sequence[Message]) -> str:
    """A conversation as an endpoint is sent it, for people."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
