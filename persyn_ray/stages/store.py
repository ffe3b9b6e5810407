"""The response store: no finished response is written twice, whatever changes around it.

A response is determined by its prompt (whose id is a hash of its content) and by its teacher's
identity: model, revision, engine, template, sampling and seed. Below a teacher's key lie folders
named by how some run put its prompts into shards: within a run a shard's responses are found at
once by the shard's name; those that another run, or this run with other splits, has written are
found by prompt id.
"""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from persyn_ray import rows
from persyn_ray.layout import Run
from persyn_ray.schemas import RESPONSES
from persyn_ray.storage import Folder
from persyn_ray.teachers import Teacher


def existing(folder: Folder, shard: str, schema: pa.Schema) -> pa.Table:
    """The rows of a shard that are already there."""
    return folder.read_table(shard) if folder.exists(shard) else schema.empty_table()


@dataclass(frozen=True)
class Store:
    """One teacher's responses, as one run sees them."""

    run: Run
    teacher: Teacher

    @cached_property
    def folder(self) -> Folder:
        """Responses to this run's shards."""
        return self.run.responses(self.teacher)

    def responses(self, shard: str, wanted: pa.Table) -> pa.Table:
        """Responses to wanted prompts of a shard; those found elsewhere are filed here first."""
        here = existing(self.folder, shard, RESPONSES)
        missing = rows.without(wanted, "prompt_id", here["prompt_id"])
        found = self._elsewhere(missing["prompt_id"]) if missing.num_rows else None
        if found is None or not found.num_rows:
            return rows.among(here, "prompt_id", wanted["prompt_id"])
        here = pa.concat_tables([here, found])
        self.folder.write_table(shard, here)
        return rows.among(here, "prompt_id", wanted["prompt_id"])

    def add(self, shard: str, new: pa.Table) -> None:
        """File new responses beside those of the shard that are there."""
        here = existing(self.folder, shard, RESPONSES)
        here = rows.without(here, "prompt_id", new["prompt_id"])
        self.folder.write_table(shard, pa.concat_tables([here, new]))

    def _elsewhere(self, prompt_ids: pa.ChunkedArray) -> pa.Table:
        """Responses in other arrangements, one for each prompt that has one."""
        places = rows.among(self._index, "prompt_id", prompt_ids)
        found = RESPONSES.empty_table()
        for place in sorted(set(places["place"].to_pylist())):
            arrangement, shard = place.split("/")
            table = (self.run.stored_responses(self.teacher) / arrangement).read_table(shard)
            table = rows.among(table, "prompt_id", prompt_ids)
            found = pa.concat_tables([found, rows.without(table, "prompt_id", found["prompt_id"])])
        return found

    @cached_property
    def _index(self) -> pa.Table:
        """Where each prompt of other arrangements is answered: read once, ids only."""
        root = self.run.stored_responses(self.teacher)
        parts = [
            pa.table({"prompt_id": pa.array([], pa.string()), "place": pa.array([], pa.string())})
        ]
        for arrangement in root.names():
            if arrangement == self.run.arrangement:
                continue
            for shard, table in (root / arrangement).tables(["prompt_id"]):
                place = pa.array([f"{arrangement}/{shard}"] * table.num_rows, pa.string())
                parts.append(pa.table({"prompt_id": table["prompt_id"], "place": place}))
        return pa.concat_tables(parts)
