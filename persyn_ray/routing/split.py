"""Splits a table into parts: a file in; its rows as they are, and the prompts in them, out."""

from collections.abc import Iterator

import pyarrow as pa

from persyn_ray.data.conversations import NoConversation
from persyn_ray.data.files.rows import BadRow, Row, require
from persyn_ray.data.files.stretches import Stretch, stretches_of
from persyn_ray.data.prompt_rows import ALPACA, prompt_of
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.routing.parts import PROMPT_PARTS, TableJob
from persyn_ray.shards.units import Unit

COLUMN = "--column"


class SplitTable:
    """Writes the parts of a file one by one, and names each as soon as it is there."""

    def __init__(self, job: TableJob) -> None:
        self.job = job

    def __call__(self, unit: Unit) -> Iterator[Unit]:
        """The parts of a file, by its place among the files.

        Raises:
            ConfigError: no row of the file has the column of prompts.
            DataError: the file is damaged.
        """
        job, file = self.job, int(unit["shard"])
        done = job.parts_of(file)
        if done is not None:
            yield from (Unit(shard=part) for part in done)
            return
        section, number = job.prompts, 0
        seen, waiting = dict[str, None](), list[Unit]()
        for stretch in stretches_of(job.files[file], _columns(section), job.rows):
            seen |= dict.fromkeys(stretch.table.column_names)
            part = job.part(file, number)
            self._write(part, stretch)
            number += 1
            waiting.append(Unit(shard=part))
            if section.column in seen:  # else it may be the wrong name: nothing is routed yet
                yield from waiting
                waiting.clear()
        if number:  # a file without rows lacks nothing
            require([section.column], list(seen), job.files[file], COLUMN)
        job.whole.write_json(f"{file:05d}.json", number)

    def _write(self, part: str, stretch: Stretch) -> None:
        """Prompts last: they say that the part is there."""
        if self.job.table_prompts.holds_table(part):
            return
        self.job.table_rows.write_table(part, stretch.table)
        self.job.table_prompts.write_table(part, prompts_of(self.job.prompts, stretch))


def prompts_of(section: PromptsConfig, stretch: Stretch) -> pa.Table:
    """PROMPT_PARTS of a stretch: the prompt in each row, or why it holds none."""
    rows = [
        {"number": number} | _prompt(section, row)
        for number, row in zip(stretch.numbers, stretch.rows, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=PROMPT_PARTS)


def _prompt(section: PromptsConfig, row: Row | BadRow) -> Row:
    try:
        prompt = prompt_of(section, row, require_reference=False)
    except NoConversation as refusal:
        reason, detail = refusal.args
        return {"reason": reason, "detail": detail}
    return {name: prompt[name] for name in ("prompt_id", "messages", "task")}


def _columns(section: PromptsConfig) -> list[str]:
    also = ALPACA[1:] if section.column == ALPACA[0] else ()
    label = () if section.task_column is None else (section.task_column,)
    return [section.column, *label, *also]
