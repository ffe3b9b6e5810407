"""Response store: finished responses by teacher and prompt, reused across runs and re-sharding.

A response is determined by its prompt (whose id is a hash of its content) and by its teacher's
identity: model, revision, engine, template, sampling and seed. Below a teacher's key lie folders
named by how some run put its prompts into shards: within a run a shard's responses are found at
once by the shard's name; those that another run, or this run with other splits, has written are
found by prompt id.

Runs may write into one store at the same time, in part files of their own (`part_files.py`). A
score is stored with the hash of the response that it was made for, and counts beside that response
alone.
"""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.recipe.scoring import QualityPartConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.part_files import existing, shards_in
from persyn_ray.shards.part_index import PartIndex
from persyn_ray.shards.part_writer import add_part
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, RESPONSE_HASH, RESPONSES, filed


def hashed(responses: pa.Table) -> pa.Array:
    """For each response what stands for its text in a table of scores."""
    return pa.array([_hash(text) for text in responses["response"].to_pylist()], pa.string())


def scores_of(folder: Folder, shard: str, schema: pa.Schema, responses: pa.Table) -> pa.Table:
    """Those stored scores of a shard (see `schemas.filed`) that belong to some responses to it."""
    return belonging(existing(folder, shard, filed(schema)), responses)


def belonging(scores: pa.Table, responses: pa.Table) -> pa.Table:
    """Those stored scores that were made for one of some responses, with the same words."""
    return scores.filter(pa.array(_is_of(scores, responses), pa.bool_()))


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


class Store:
    """One teacher's responses, as one run sees them; for use by many threads at once."""

    def __init__(self, run: RunLayout, teacher: TeacherConfig) -> None:
        self.run, self.teacher = run, teacher
        self.folder = run.responses(teacher)
        """Responses to this run's shards."""
        self.index = PartIndex(self.folder, RESPONSES)

    def unanswered(self, shard: str, wanted: pa.Table) -> pa.Table:
        """Wanted prompts of a shard without a response; those found elsewhere are filed here."""
        missing = self.index.without(shard, wanted)
        found = self._elsewhere(missing["prompt_id"]) if missing.num_rows else None
        if found is None or not found.num_rows:
            return missing
        self.add(shard, found)
        return self.index.without(shard, wanted)

    def add(self, shard: str, new: pa.Table) -> None:
        """File new responses beside those of the shard that are there, as a part of their own."""
        add_part(self.folder, {shard: new})

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
