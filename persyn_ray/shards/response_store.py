"""Response store: finished responses by teacher and prompt, reused across runs and re-sharding.

A response is determined by its prompt (whose id is a hash of its content) and by its teacher's
identity: model, revision, engine, template, sampling and seed. Below a teacher's key lie folders
named by how some run put its prompts into shards: within a run a shard's responses are found at
once by the shard's name; those that another run, or this run with other splits, has written are
found by prompt id.

Runs may write into one store at the same time. A shard is made of parts, SHARD.NUMBER-WRITER, each
written once and never changed, so nobody overwrites another's. Where two parts answer a prompt, the
first by name that holds a text counts, for every reader: a later part has a higher number, so what
was there stays what it was. A score is stored with the hash of the response that it was made for,
and counts beside that response alone.
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.errors import DamagedError
from persyn_ray.recipe.scoring import QualityPartConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, RESPONSE_HASH, RESPONSES, filed

logger = logging.getLogger(__name__)
FAILED = ("error", "missing", "unavailable")
"""Finish reasons of a response that is not there."""


def existing(
    folder: Folder, shard: str, schema: pa.Schema, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a shard that are already there, or some columns of them; of several parts one row
    for each prompt. A part that cannot be read counts as absent.
    """
    asked = schema.names if columns is None else list(columns)
    keys = [name for name in ("prompt_id", "finish_reason") if name in schema.names]
    read = list(dict.fromkeys([*asked, *keys]))
    parts = [
        table for name in _parts(folder, shard) if (table := _whole(folder, name, read)) is not None
    ]
    if not parts:
        return schema.empty_table().select(asked)
    table = pa.concat_tables(parts) if len(parts) == 1 else _one_per_prompt(pa.concat_tables(parts))
    return table.select(asked)


def shards_in(folder: Folder) -> set[str]:
    """Names of the shards that have rows in a folder."""
    return {f"{name.partition('.')[0]}.parquet" for name in folder.names(".parquet")}


def hashed(responses: pa.Table) -> pa.Array:
    """For each response what stands for its text in a table of scores."""
    return pa.array([_hash(text) for text in responses["response"].to_pylist()], pa.string())


def scores_of(folder: Folder, shard: str, schema: pa.Schema, responses: pa.Table) -> pa.Table:
    """Those stored scores of a shard (see `schemas.filed`) that belong to some responses to it."""
    table = existing(folder, shard, filed(schema))
    return table.filter(pa.array(_is_of(table, responses), pa.bool_()))


def responses_of(run: RunLayout, teachers: Sequence[TeacherConfig], shard: str) -> list[pa.Table]:
    """Each teacher's RESPONSES to a shard, in pool order."""
    return [existing(run.responses(teacher), shard, RESPONSES) for teacher in teachers]


def measures_of(
    run: RunLayout, teachers: Sequence[TeacherConfig], shard: str, said: Sequence[pa.Table]
) -> list[pa.Table]:
    """LEARNABILITY of each teacher's responses `said` to a shard, in pool order."""
    return [
        scores_of(run.learnability(teacher), shard, LEARNABILITY, of)
        for teacher, of in zip(teachers, said, strict=True)
    ]


def qualities_of(
    run: RunLayout,
    teachers: Sequence[TeacherConfig],
    part: QualityPartConfig,
    shard: str,
    said: Sequence[pa.Table],
) -> list[pa.Table]:
    """QUALITY, by one part, of each teacher's responses `said` to a shard, in pool order."""
    return [
        scores_of(run.quality(teacher, part), shard, QUALITY, of)
        for teacher, of in zip(teachers, said, strict=True)
    ]


def kept_scores(folder: Folder, shard: str, schema: pa.Schema, responses: pa.Table) -> pa.Table:
    """Stored scores that stay when others are added: those that belong to other words go."""
    table = existing(folder, shard, filed(schema))
    answered = set(responses["prompt_id"].to_pylist())
    belongs = zip(_is_of(table, responses), table["prompt_id"].to_pylist(), strict=True)
    return table.filter(pa.array([is_of or i not in answered for is_of, i in belongs], pa.bool_()))


@dataclass(frozen=True)
class Store:
    """One teacher's responses, as one run sees them."""

    run: RunLayout
    teacher: TeacherConfig

    @cached_property
    def folder(self) -> Folder:
        """Responses to this run's shards."""
        return self.run.responses(self.teacher)

    def responses(self, shard: str, wanted: pa.Table) -> pa.Table:
        """Responses to wanted prompts of a shard; those found elsewhere are filed here first."""
        here = existing(self.folder, shard, RESPONSES)
        missing = selection.without(wanted, "prompt_id", here["prompt_id"])
        found = self._elsewhere(missing["prompt_id"]) if missing.num_rows else None
        if found is not None and found.num_rows:
            self.add(shard, found)
            here = pa.concat_tables([here, found])
        return selection.among(here, "prompt_id", wanted["prompt_id"])

    def add(self, shard: str, new: pa.Table) -> None:
        """File new responses beside those of the shard that are there, as a part of their own."""
        there = [name.split(".")[1].partition("-")[0] for name in _parts(self.folder, shard)]
        number = max((int(number) for number in there if number.isdecimal()), default=0) + 1
        stem, writer = shard.partition(".")[0], uuid.uuid4().hex[:12]
        self.folder.write_table(f"{stem}.{number:04d}-{writer}.parquet", new)

    def _elsewhere(self, prompt_ids: pa.ChunkedArray) -> pa.Table:
        """Responses in other shardings, one for each prompt that has one."""
        places = selection.among(self._index, "prompt_id", prompt_ids)
        found = RESPONSES.empty_table()
        for place in sorted(set(places["place"].to_pylist())):
            sharding, shard = place.split("/")
            folder = self.run.stored_responses(self.teacher) / sharding
            table = selection.among(existing(folder, shard, RESPONSES), "prompt_id", prompt_ids)
            found = pa.concat_tables(
                [found, selection.without(table, "prompt_id", found["prompt_id"])]
            )
        return found

    @cached_property
    def _index(self) -> pa.Table:
        """Where each prompt of other shardings is answered: read once, ids only."""
        root = self.run.stored_responses(self.teacher)
        parts = [
            pa.table({"prompt_id": pa.array([], pa.string()), "place": pa.array([], pa.string())})
        ]
        for sharding in root.names():
            if sharding == self.run.sharding:
                continue
            for shard in sorted(shards_in(root / sharding)):
                ids = existing(root / sharding, shard, RESPONSES, ["prompt_id"])["prompt_id"]
                place = pa.array([f"{sharding}/{shard}"] * len(ids), pa.string())
                parts.append(pa.table({"prompt_id": ids, "place": place}))
        return pa.concat_tables(parts)


def _parts(folder: Folder, shard: str) -> list[str]:
    return folder.names(".parquet", prefix=f"{shard.partition('.')[0]}.")


def _whole(folder: Folder, name: str, columns: list[str]) -> pa.Table | None:
    try:
        return folder.read_table(name, columns)
    except DamagedError as error:
        logger.warning("%s It counts as absent.", error)
        return None


def _one_per_prompt(table: pa.Table) -> pa.Table:
    """The first row of each prompt, or the first that is no failure if there is one."""
    ids = table["prompt_id"].to_pylist()
    is_failed = [False] * len(ids)
    if "finish_reason" in table.column_names:
        is_failed = [reason in FAILED for reason in table["finish_reason"].to_pylist()]
    first: dict[str, int] = {}
    for place in sorted(range(len(ids)), key=is_failed.__getitem__):
        first.setdefault(ids[place], place)
    chosen = set(first.values())
    return table.filter(pa.array([place in chosen for place in range(len(ids))], pa.bool_()))


def _is_of(table: pa.Table, responses: pa.Table) -> list[bool]:
    """For each score whether its response is among some responses, with the same words."""
    hashes = dict(
        zip(responses["prompt_id"].to_pylist(), hashed(responses).to_pylist(), strict=True)
    )
    columns = (table[name].to_pylist() for name in ("prompt_id", RESPONSE_HASH.name))
    return [hashes.get(prompt_id) == of for prompt_id, of in zip(*columns, strict=True)]


def _hash(text: str | None) -> str:
    # Texts may hold half a surrogate pair, which UTF-8 proper cannot.
    data = b"\0" if text is None else text.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=16).hexdigest()
