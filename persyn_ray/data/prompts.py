"""Data in: prompts from files, from the hub or from installed packages.

A prompt is known by the hash of its conversation, so the same prompt is the same row in every run
and duplicates fall together, also those that only read the same (see `cells.text_key`); the
reference is no part of it. Of duplicates the first counts, with its own text. Rows that are no
prompt become dead letters with their file and row number, and the rest goes on: no text, malformed
messages, text that is no valid Unicode, no reference where one is needed. Text is kept as it is,
NUL and control characters included; what must not reach a model is dealt with where text becomes
tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from persyn_ray.data.conversations import NoConversation
from persyn_ray.data.files.rows import PACKAGE, BadRow, Row, batch_rows, expand, require, rows_with
from persyn_ray.data.prompt_rows import ALPACA, prompt_of
from persyn_ray.data.selection import take_rows
from persyn_ray.data.splits import drawn_order
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.storage.schemas import DEAD_LETTERS, MESSAGES, PROMPTS

HUB = "hub:"
CHUNK_ROWS = 2_000
"""Rows that are lists of Python values at once: more of them make garbage collection slow."""
SETTING = "prompts.path"
COLUMNS = "prompts.column, prompts.reference_column or prompts.task_column"
_CHANGED_BY = {
    "unreadable_row": (SETTING,),
    "invalid_unicode": (SETTING,),
    "no_reference": ("prompts.reference_column",),
}
"""Settings that change why rows are refused; others hang on the file and its column."""
UNSPLIT = PROMPTS.remove(PROMPTS.get_field_index("split"))
"""Schema of prompts that have no split yet."""

Numbered = Iterator[tuple[str, int, Row | BadRow]]
"""Source, number and content of rows."""


@dataclass(frozen=True)
class LoadedPrompts:
    """Prompts without a split, rows that are none, and how many prompts were there before."""

    table: pa.Table  # schema UNSPLIT
    dead: pa.Table  # schema DEAD_LETTERS
    num_duplicates: int

    @property
    def lost(self) -> str:
        """What rows became that are not in the table, in a sentence; empty where all are."""
        if not self.dead.num_rows and not self.num_duplicates:
            return ""
        first = f" (the first: {self.dead['detail'][0].as_py()})" if self.dead.num_rows else ""
        return f" {self.dead.num_rows} rows were refused{first}, {self.num_duplicates} duplicates."


def load_prompts(
    section: PromptsConfig,
    path: str | Sequence[str] | None = None,
    require_reference: bool = False,
    limit: int | None = None,
) -> LoadedPrompts:
    """Read all prompts; `path` and `limit` stand in for the section's own where given.

    Raises:
        ConfigError: a file, a column or a data set that the section names does not exist.
        DataError: a file is damaged, or no row is a prompt.
    """
    chunks = list(iter_prompts(section, path, require_reference))
    tables = [chunk.table for chunk in chunks] or [UNSPLIT.empty_table()]
    dead = pa.concat_tables([chunk.dead for chunk in chunks] or [DEAD_LETTERS.empty_table()])
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise _no_prompt(section, path or section.path, dead)
    limit = section.limit if limit is None and path is None else limit
    if limit is not None and limit < table.num_rows:
        table = take_rows(table, drawn_order(table["prompt_id"], section.seed)[:limit])
    return LoadedPrompts(table, dead, sum(chunk.num_duplicates for chunk in chunks))


def _no_prompt(section: PromptsConfig, path: str | Sequence[str], dead: pa.Table) -> DataError:
    """That no row is a prompt: why, and the settings that change it."""
    begin = f"No prompt in {path!r}, column {section.column!r}: "
    if not dead.num_rows:
        return DataError(f"{begin}it holds no rows. Set {SETTING}.")
    reasons = sorted(map(str, set(dead["reason"].to_pylist())))
    named = [_CHANGED_BY.get(reason, (SETTING, "prompts.column")) for reason in reasons]
    to_set = " or ".join(dict.fromkeys(name for names in named for name in names))
    first = str(dead["detail"][0].as_py()).rstrip(".")
    return DataError(
        f"{begin}{dead.num_rows} rows were refused {reasons}. The first is {first}. Set {to_set}."
    )


def iter_prompts(
    section: PromptsConfig, path: str | Sequence[str] | None = None, require_reference: bool = False
) -> Iterator[LoadedPrompts]:
    """The prompts in chunks, each seen once; what is remembered is 16 bytes a prompt."""
    if "{prompt}" not in section.template:
        raise ConfigError(
            f"prompts.template is {section.template!r}; it needs {{prompt}} where the text goes."
        )
    seen: set[bytes] = set()
    rows = _rows(section, path or section.path)
    while (
        chunk := _converted(section, islice(rows, CHUNK_ROWS), require_reference, seen)
    ).num_rows:
        yield chunk.loaded


def _rows(section: PromptsConfig, paths: str | Sequence[str]) -> Numbered:
    """The rows of every path, one path after the other."""
    named = [section.column, section.reference_column, section.task_column]
    columns = list(dict.fromkeys(column for column in named if column is not None))
    also = ALPACA[1:] if section.column == ALPACA[0] else ()
    for path in (paths,) if isinstance(paths, str) else paths:
        if path.startswith(HUB):
            yield from _hub_rows(section, path, columns, also)
            continue
        for file, number, row in rows_with(expand(path, SETTING), columns, COLUMNS, also):
            # A package's place, like the folder of a file, differs between machines.
            yield path if path.startswith(PACKAGE) else file.rsplit("/", 1)[-1], number, row


def _hub_rows(
    section: PromptsConfig, path: str, columns: list[str], also: Sequence[str]
) -> Numbered:
    from datasets import Dataset, load_dataset  # 2 s that only hub data sets cost

    name = path.removeprefix(HUB)
    try:
        dataset = load_dataset(name, section.config, split=section.split, revision=section.revision)
    except Exception as error:  # its own errors, the network's and the file formats'
        raise ConfigError(
            f"Cannot load the data set {name!r} (prompts.config {section.config!r}, prompts.split "
            f"{section.split!r}, prompts.revision {section.revision!r}): {error}. Set {SETTING}."
        ) from error
    assert isinstance(dataset, Dataset)
    require(columns, dataset.column_names, path, COLUMNS)
    present = [*columns, *(column for column in also if column in dataset.column_names)]
    tables = dataset.select_columns(present).with_format("arrow").iter(CHUNK_ROWS)
    batches = (batch for table in tables for batch in table.to_batches())  # pyright: ignore
    rows = (row for batch in batches for row in batch_rows(batch))
    yield from ((path, number, row) for number, row in enumerate(rows, start=1))


class _Chunk:
    """Prompts of consecutive rows, column by column: no row stays as a Python object."""

    def __init__(self) -> None:
        self.columns: dict[str, list[str | None]] = {name: [] for name in UNSPLIT.names}
        del self.columns["messages"]
        self.roles: list[str] = []
        self.contents: list[str] = []
        self.ends: list[int] = [0]
        self.dead: list[dict[str, str | None]] = []
        self.num_rows = self.num_duplicates = 0

    def add(self, prompt: dict[str, Any], source: str) -> None:
        """A prompt that is not there yet."""
        for turn in prompt["messages"]:
            self.roles.append(turn["role"])
            self.contents.append(turn["content"])
        self.ends.append(len(self.roles))
        self.columns["source"].append(source)
        for name in ("prompt_id", "reference", "task"):
            self.columns[name].append(prompt[name])

    @property
    def loaded(self) -> LoadedPrompts:
        """All of them as tables."""
        turns = [pa.array(texts, pa.string()) for texts in (self.roles, self.contents)]
        arrays: dict[str, pa.Array] = {
            "messages": pa.ListArray.from_arrays(
                pa.array(self.ends, pa.int32()),
                pa.StructArray.from_arrays(turns, fields=list(MESSAGES.value_type)),
            )
        }
        arrays |= {name: pa.array(of, pa.string()) for name, of in self.columns.items()}
        return LoadedPrompts(
            pa.Table.from_arrays([arrays[name] for name in UNSPLIT.names], schema=UNSPLIT),
            pa.Table.from_pylist(self.dead, schema=DEAD_LETTERS),
            self.num_duplicates,
        )


def _converted(
    section: PromptsConfig, rows: Numbered, require_reference: bool, seen: set[bytes]
) -> _Chunk:
    chunk = _Chunk()
    for source, number, row in rows:
        chunk.num_rows += 1
        try:
            prompt = prompt_of(section, row, require_reference)
        except NoConversation as refusal:
            reason, detail = refusal.args
            where = f"{source}, row {number}: {detail}"
            blank = {"prompt_id": None, "teacher": None}
            chunk.dead.append({"step": "prompts", "reason": reason, "detail": where, **blank})
            continue
        key = bytes.fromhex(prompt["prompt_id"])
        if key in seen:
            chunk.num_duplicates += 1
        else:
            seen.add(key)
            chunk.add(prompt, source)
    return chunk
