"""Step prompts: reads, de-duplicates and splits prompts, and writes them in shards of one split.

Every reference that a check compares with is read once here; prompts whose reference it cannot read
become dead letters, rather than nulls in every teacher's scores. So do prompts that the student,
the router or a reward model cannot read through its chat template.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from persyn_ray.checks.code.programs import why_no_tests
from persyn_ray.checks.verifier import Verifier
from persyn_ray.data import selection
from persyn_ray.data.extra_examples import require_readable
from persyn_ray.data.prompts import LoadedPrompts, load_prompts
from persyn_ray.data.splits import SPLITS, SplitPrompts, split_prompts
from persyn_ray.errors import DataError
from persyn_ray.pipeline.template_readers import Reader, readers_of, refusals
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.recipe.own_code import PythonQualityConfig, load_code
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import (
    ExactAnswerConfig,
    InstructionsConfig,
    RecordedScoresConfig,
    Single,
    UnitTestsConfig,
    needs_reference,
)
from persyn_ray.shards.compaction import ROWS_PER_GROUP
from persyn_ray.shards.score import check_of
from persyn_ray.shards.students.harness import require_packages
from persyn_ray.stages.own_quality import SETTING
from persyn_ray.stages.recorded_scores import RecordedScores
from persyn_ray.storage.folder import shard_name
from persyn_ray.storage.layout import RunLayout, parts_of
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.schemas import DEAD_LETTERS

HASHED_ROWS = 50_000
"""Ids that are Python values at once."""
READS = (ExactAnswerConfig, UnitTestsConfig, InstructionsConfig)
"""Qualities that may find nothing in a reference to compare with."""


@dataclass(frozen=True)
class ReadPrompts:
    """Prompts with their splits, and what became of the other rows."""

    prompts: SplitPrompts
    dead: pa.Table  # schema DEAD_LETTERS
    num_duplicates: int


def read_prompts(recipe: Recipe, readers: Sequence[Reader] = ()) -> ReadPrompts:
    """All prompts of a recipe with their splits; held-out ones may come from a file of their own.

    A prompt in both files is held out, so that nobody trains on it, and counts as a duplicate.

    Args:
        readers: the models that have to be able to read a prompt.

    Raises:
        ConfigError: files are not there, hold fewer prompts than the recipe asks for, or none that
            all readers can read.
        DataError: a file is damaged, no row is a prompt, or no reference can be read.
    """
    section, path = recipe.prompts, recipe.evaluate.path
    for extra in recipe.dataset.extra:
        require_readable(extra)
    check = check_of(recipe.evaluate, recipe.scoring)
    scored = [part.quality for part in parts_of(recipe.scoring)]
    checked = [] if check is None else [check]
    if path is None:
        qualities = scored + (checked if section.num_heldout else [])
        loaded = _readable(_load(section, None, qualities), readers, section.path)
        split = split_prompts(
            loaded.table, section.num_parallel, section.num_heldout, section.seed, loaded.lost
        )
        return ReadPrompts(split, loaded.dead, loaded.num_duplicates)
    loaded = _readable(_load(section, None, scored), readers, section.path)
    apart = _readable(_load(section, path, checked), readers, path)
    ours = selection.without(loaded.table, "prompt_id", apart.table["prompt_id"])
    split = split_prompts(ours, section.num_parallel, 0, section.seed, loaded.lost)
    table = pa.concat_tables([ours, apart.table])
    heldout = np.arange(ours.num_rows, table.num_rows)
    places = {name: split.places[name] for name in ("parallel", "routed")} | {"heldout": heldout}
    return ReadPrompts(
        SplitPrompts(table, places),
        pa.concat_tables([loaded.dead, apart.dead]),
        loaded.num_duplicates + apart.num_duplicates + loaded.table.num_rows - ours.num_rows,
    )


def _load(
    section: PromptsConfig, path: str | Sequence[str] | None, qualities: Sequence[Single]
) -> LoadedPrompts:
    """The prompts of a file whose references all the qualities can read."""
    loaded = load_prompts(section, path, any(map(needs_reference, qualities)))
    reading = [quality for quality in qualities if isinstance(quality, READS)]
    unreadable: dict[str, str] = {}
    if reading:
        references = loaded.table["reference"].drop_null().unique().to_pylist()
        for quality in reading:
            unreadable |= _unreadable(quality, references)
    refused = selection.among(loaded.table, "reference", pa.array(list(unreadable), pa.string()))
    if not refused.num_rows:
        return loaded
    if refused.num_rows == loaded.table.num_rows:
        first = refused.slice(0, 5).to_pylist()
        found = [
            (row["prompt_id"], row["reference"], unreadable[row["reference"]]) for row in first
        ]
        raise DataError(
            f"None of {refused.num_rows} references in {path or section.path!r}, column "
            f"{section.reference_column!r}, can be read. The first prompts, their references and "
            f"why: {found!r:.2000}. Set prompts.reference_column or scoring.quality."
        )
    letters = [
        _letter(
            row,
            "unreadable_reference",
            f"reference {row['reference']!r}: {unreadable[row['reference']]}",
        )
        for row in refused.to_pylist()
    ]
    return LoadedPrompts(
        selection.without(loaded.table, "prompt_id", refused["prompt_id"]),
        pa.concat_tables([loaded.dead, pa.Table.from_pylist(letters, schema=DEAD_LETTERS)]),
        loaded.num_duplicates,
    )


def _readable(
    loaded: LoadedPrompts, readers: Sequence[Reader], path: str | Sequence[str]
) -> LoadedPrompts:
    """The prompts that all readers can read; the others are dead letters."""
    if not readers:
        return loaded
    stretches, schema = loaded.table.to_batches(), loaded.table.schema
    dead, num_duplicates = loaded.dead, loaded.num_duplicates
    del loaded  # so that a stretch goes when it is replaced
    # A stretch at a time: as Python values, conversations take several times their memory.
    conversations = (one for of in stretches for one in of["messages"].to_pylist())
    found = refusals(conversations, readers, repr(path))
    refused = _taken_out(stretches, list(found))
    letters = [
        _letter(row, "unreadable_prompt", why)
        for row, why in zip(refused, found.values(), strict=True)
    ]
    return LoadedPrompts(
        pa.Table.from_batches(stretches, schema),
        pa.concat_tables([dead, pa.Table.from_pylist(letters, schema=DEAD_LETTERS)]),
        num_duplicates,
    )


def _taken_out(stretches: list[pa.RecordBatch], places: Sequence[int]) -> list[dict[str, Any]]:
    """The rows at some places in rising order, which their stretches lose."""
    rows: list[dict[str, Any]] = []
    start = 0
    for number, stretch in enumerate(stretches):
        stop = start + stretch.num_rows
        first, last = bisect_left(places, start), bisect_left(places, stop)
        if first < last:
            is_kept = np.ones(stretch.num_rows, bool)
            is_kept[np.subtract(places[first:last], start)] = False
            rows += stretch.filter(pa.array(~is_kept)).to_pylist()
            stretches[number] = stretch.filter(pa.array(is_kept))
        start = stop
    return rows


def _unreadable(
    quality: ExactAnswerConfig | UnitTestsConfig | InstructionsConfig, references: Sequence[str]
) -> dict[str, str]:
    """References that a check finds nothing in to compare with, and why."""
    if isinstance(quality, ExactAnswerConfig):
        with Verifier(
            quality.timeout_seconds, quality.processes, memory_gib=quality.memory_gib
        ) as verifier:
            positions = verifier.check_references(references)
        return {references[index]: "exact_answer finds no answer in it" for index in positions}
    if isinstance(quality, UnitTestsConfig):
        tests = [(reference, why_no_tests(reference)) for reference in references]
        return {reference: why for reference, why in tests if why is not None}
    from persyn_ray.checks.ifeval import why_unreadable  # it loads packages, 2 s

    found = [(reference, why_unreadable(reference)) for reference in references]
    return {reference: why for reference, why in found if why is not None}


def _letter(prompt: Mapping[str, object], reason: str, why: str) -> dict[str, str | None]:
    return {
        "step": "prompts",
        "prompt_id": str(prompt["prompt_id"]),
        "teacher": None,
        "reason": reason,
        "detail": f"{prompt['source']}: {why}",
    }


def write_prompts(recipe: Recipe, run: RunLayout) -> PromptsResult:
    """Write PROMPTS in shards; returns counts and the names of every split's shards.

    `sharding` names how prompts were put into shards: the same prompts in the same shards have
    the same name, whatever else the recipe says.
    """
    # What a quality cannot read or load is known before responses are paid for.
    for part in parts_of(recipe.scoring):
        if isinstance(part.quality, RecordedScoresConfig):
            RecordedScores(part.quality, recipe.responses)
        if isinstance(part.quality, PythonQualityConfig):
            load_code(part.quality.function, part.quality.source, SETTING)
    if recipe.evaluate.lm_eval is not None:
        require_packages(recipe.evaluate.lm_eval)
    check = recipe.evaluate.check
    if isinstance(check, PythonQualityConfig):
        load_code(check.function, check.source, "evaluate.check.function")
    read = read_prompts(
        recipe, readers_of(recipe.student, recipe.router, recipe.compare, recipe.scoring)
    )
    if read.dead.num_rows:
        run.dead_letters("prompts").write_table("rows.parquet", read.dead)
    shard_rows = recipe.prompts.shard_rows
    return PromptsResult(
        rows=sum(read.prompts.counts.values()),
        errors=read.dead.num_rows,
        duplicates=read.num_duplicates,
        splits=read.prompts.counts,
        sharding=_sharding(read.prompts, shard_rows),
        shards=_write_shards(run, read.prompts, shard_rows),
    )


def _sharding(prompts: SplitPrompts, shard_rows: int) -> str:
    digest = hashlib.sha256(str(shard_rows).encode())
    ids = prompts.table["prompt_id"].combine_chunks()
    for split, places in prompts.places.items():
        for start in range(0, len(places), HASHED_ROWS):
            some = ids.take(pa.array(places[start : start + HASHED_ROWS])).to_pylist()
            digest.update("".join(f" {one}:{split}" for one in some).encode())
    return digest.hexdigest()[:16]


def _write_shards(run: RunLayout, prompts: SplitPrompts, shard_rows: int) -> dict[str, list[str]]:
    shards: dict[str, list[str]] = {split: [] for split in SPLITS}
    number = 0
    for split, num_rows in prompts.counts.items():
        for start in range(0, num_rows, shard_rows):
            name = shard_name(number)
            rows = prompts.taken(split, start, start + shard_rows)
            run.prompts.write_table(name, rows, ROWS_PER_GROUP)
            shards[split].append(name)
            number += 1
    return shards
