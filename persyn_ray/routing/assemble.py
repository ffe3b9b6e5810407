"""Writes the routed table: parts with their scores in; one parquet file of all rows, in their order
and with all their columns, out.

Behind a table's own columns stand, with a prefix where one is given:

    prompt_id   the prompt's id in every run; null where the row holds none
    teacher     who should answer; null for nobody
    margin      how far its logit is ahead of the best other one; below 0 where a limit moved it
    scores      {teacher: win share}, or predicted reward of a router fitted by regression
    distance, is_novel   how unlike the parallel set; null where the router cannot tell
    refused     why the row has no teacher; null where it has one

A column that differs in type between parts gets one that holds them all, or is JSON text.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from persyn_ray.data.files.stretches import JSON_TEXT, as_json_text
from persyn_ray.errors import ConfigError
from persyn_ray.routing.choose import Chosen, Floats, Rule, choose, choose_within
from persyn_ray.routing.parts import TableJob
from persyn_ray.storage.atomic_files import temporary_name, writing_to
from persyn_ray.storage.folder import Folder

ADDED = ("prompt_id", "teacher", "margin", "scores", "distance", "is_novel", "refused")
ROWS_PER_GROUP = 32_768  # of the file that is written


@dataclass
class Routed:
    """What became of a table's rows."""

    num_rows: int = 0
    prompts: Counter[str] = field(default_factory=Counter)
    """By teacher."""
    refused: Counter[str] = field(default_factory=Counter)
    """Rows without a teacher, by reason."""
    first_refused: str | None = None
    num_novel: int | None = None
    """None where the router cannot tell."""


def refuse_clashes(columns: Sequence[str], prefix: str) -> None:
    """Refuse a table that has a column of the name of one that is added, or two of one name.

    Raises:
        ConfigError: with the option that gives another name.
    """
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ConfigError(f"The table has several columns named {twice}: rename them.")
    taken = [prefix + name for name in ADDED if prefix + name in columns]
    if taken:
        raise ConfigError(
            f"The table has {taken} already, and columns of these names are added: set --prefix, "
            "which is put before them."
        )


def assemble(job: TableJob, rule: Rule, out: str, prefix: str) -> Routed:
    """Assign all scored rows and write them to `out`, which is whole or absent.

    Raises:
        ConfigError: the limits cannot be kept, or a column's name is taken.
    """
    parts = job.all_parts()
    schema = _exact(job.table_rows, parts)
    refuse_clashes(schema.names, prefix)
    chosen = _within_limits(job, rule, parts) if rule.limits.is_limited else None
    counts, start, waiting = Routed(), 0, list[pa.Table]()
    whole = pa.schema([*schema, *_added(rule.teachers, prefix)])
    with _written(out) as handle, pq.ParquetWriter(handle, whole, compression="zstd") as writer:
        for part in parts:
            prompts, scores = job.table_prompts.read_table(part), job.scores.read_table(part)
            ids, logits_PM = _ids(prompts), logits_of(scores, len(rule.teachers))
            of = chosen and chosen.part(start, start + len(ids))
            made = _columns(rule, prompts, scores, of or choose(rule, ids, logits_PM), counts)
            start += len(ids)
            own = _conformed(job.table_rows.read_table(part), schema)
            waiting.append(pa.Table.from_arrays([*own, *made], schema=whole))
            if sum(table.num_rows for table in waiting) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
    return counts


def shared_columns(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for the columns of all parts."""
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    found: dict[str, list[pa.Field]] = {name: [] for name in names}
    for schema in schemas:
        for one in schema:
            found[one.name].append(one)
    return pa.schema([_shared(name, fields) for name, fields in found.items()])


def logits_of(scores: pa.Table, num_teachers: int) -> Floats:
    """Logits (P, M) of a part; NaN in rows that were not read."""
    column = scores["logits"].combine_chunks()
    logits_PM = np.full((len(column), num_teachers), np.nan)
    is_read_P = column.is_valid().to_numpy(zero_copy_only=False)
    logits_PM[is_read_P] = column.flatten().to_numpy().reshape(-1, num_teachers)  # without nulls
    return logits_PM


def _within_limits(job: TableJob, rule: Rule, parts: Sequence[str]) -> Chosen:
    """All rows at once: 8 bytes a row and teacher are held."""
    ids: list[str] = []
    logits: list[Floats] = [np.empty((0, len(rule.teachers)))]
    for part in parts:
        ids += _ids(job.table_prompts.read_table(part, ["prompt_id"]))
        logits.append(logits_of(job.scores.read_table(part, ["logits"]), len(rule.teachers)))
    return choose_within(rule, ids, np.concatenate(logits))


def _ids(prompts: pa.Table) -> list[str]:
    return [one or "" for one in prompts["prompt_id"].to_pylist()]


def _schema_of(folder: Folder, part: str) -> pa.Schema:
    with fsspec.open(f"{folder.address}/{part}", "rb") as handle:
        return pq.read_schema(handle)  # pyright: ignore[reportArgumentType]


def _shared(name: str, fields: Sequence[pa.Field]) -> pa.Field:
    kinds = {one.type for one in fields if not pa.types.is_null(one.type)}
    if not any(_is_json(one) for one in fields):
        if len(kinds) <= 1:
            return pa.field(name, kinds.pop() if kinds else pa.string())
        try:
            plain = [pa.schema([pa.field(name, kind)]) for kind in kinds]
            return pa.field(name, pa.unify_schemas(plain, promote_options="permissive")[0].type)
        except pa.ArrowException:
            pass
    return pa.field(name, pa.string(), metadata=JSON_TEXT)


def _exact(rows: Folder, parts: Sequence[str]) -> pa.Schema:
    """Shared columns that hold every value as it is: 2**53 + 1 beside 0.5 is no number but text."""
    schemas = [_schema_of(rows, part) for part in parts]
    shared = shared_columns(schemas)
    for place, one in enumerate(shared):
        differing = (
            part
            for part, schema in zip(parts, schemas, strict=True)
            if one.name in schema.names and schema.field(one.name).type != one.type
        )
        if not _is_json(one) and not all(_fits(rows, part, one) for part in differing):
            shared = shared.set(place, pa.field(one.name, pa.string(), metadata=JSON_TEXT))
    return shared


def _fits(rows: Folder, part: str, one: pa.Field) -> bool:
    try:
        rows.read_table(part, [one.name])[one.name].cast(one.type)
    except pa.ArrowException:
        return False
    return True


def _is_json(one: pa.Field) -> bool:
    return (one.metadata or {}).items() >= JSON_TEXT.items()


def _conformed(table: pa.Table, schema: pa.Schema) -> Iterator[Any]:
    for one in schema:
        if one.name not in table.column_names:
            yield pa.nulls(table.num_rows, one.type)
        elif _is_json(one) and not _is_json(table.schema.field(one.name)):
            yield as_json_text(table[one.name].to_pylist())
        else:
            yield table[one.name].cast(one.type)


def _added(teachers: Sequence[str], prefix: str) -> list[pa.Field]:
    """Names of teachers are keys of `scores`: positions mean nothing without their pool."""
    each = pa.struct([pa.field(name, pa.float64()) for name in teachers])
    kinds = (pa.string(), pa.string(), pa.float64(), each, pa.float64(), pa.bool_(), pa.string())
    return [pa.field(prefix + name, kind) for name, kind in zip(ADDED, kinds, strict=True)]


def _columns(
    rule: Rule, prompts: pa.Table, scores: pa.Table, chosen: Chosen, counts: Routed
) -> list[Any]:
    """The added columns of a part, which is counted."""
    names = [rule.teachers[m] if m >= 0 else None for m in chosen.teacher_P]
    values_PM = rule.values(logits_of(scores, len(rule.teachers)))
    is_known_P = np.array([name is not None for name in names], dtype=np.bool_)
    each = [pa.array(values_PM[:, m], from_pandas=True) for m in range(len(rule.teachers))]
    reasons = [
        None if name is not None else f"{reason or 'no_teacher'}: {detail or 'nobody can take it'}"
        for name, reason, detail in zip(
            names, scores["reason"].to_pylist(), scores["detail"].to_pylist(), strict=True
        )
    ]
    _count(counts, names, reasons, scores)
    return [
        prompts["prompt_id"].combine_chunks(),
        pa.array(names, pa.string()),
        pa.array(chosen.margin_P, from_pandas=True),
        pa.StructArray.from_arrays(each, list(rule.teachers), mask=pa.array(~is_known_P)),
        scores["distance"].combine_chunks(),
        scores["is_novel"].combine_chunks(),
        pa.array(reasons, pa.string()),
    ]


def _count(
    counts: Routed, names: Sequence[str | None], reasons: Sequence[str | None], scores: pa.Table
) -> None:
    counts.num_rows += len(names)
    counts.prompts.update(name for name in names if name is not None)
    refused = [reason for reason in reasons if reason is not None]
    counts.refused.update(reason.partition(":")[0] for reason in refused)
    counts.first_refused = counts.first_refused or next(iter(refused), None)
    known = [one for one in scores["is_novel"].to_pylist() if one is not None]
    if known:
        counts.num_novel = (counts.num_novel or 0) + sum(known)


@contextmanager
def _written(out: str) -> Iterator[Any]:
    """A file that shows only when it is complete."""
    if "://" in out:  # object stores show a file when it is closed
        with fsspec.open(out, "wb") as handle:
            yield handle
        return
    folder = os.path.dirname(os.path.abspath(out))
    with writing_to(out):
        os.makedirs(folder, exist_ok=True)
        temporary = os.path.join(folder, temporary_name())
        try:
            with open(temporary, "xb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, out)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
