"""Data in: prompts from files, from the hub or from installed packages, and their split.

A prompt is known by the hash of its conversation, so the same prompt is the same row in every run
and duplicates fall together (the reference is no part of it; of duplicates the first counts). Rows
that are no prompt become dead letters with their file and row number, and the rest goes on: no
text, malformed messages, text that is no valid Unicode, no reference where one is needed. Text is
kept as it is, NUL and control characters included; what must not reach a model is dealt with where
text becomes tokens.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from persyn_ray.config import Prompts
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.schemas import DEAD_LETTERS, PROMPTS, conform
from persyn_ray.sources import PACKAGE, BadRow, Row, columns_of, expand, rows_of

HUB = "hub:"
ROLES = ("system", "user", "assistant")
CHUNK_ROWS = 10_000
SETTING = "prompts.path"
UNSPLIT = PROMPTS.remove(PROMPTS.get_field_index("split"))
"""Schema of prompts that have no split yet."""

Messages = list[dict[str, str]]
Numbered = Iterator[tuple[int, Row | BadRow]]


@dataclass(frozen=True)
class LoadedPrompts:
    """Prompts without a split, rows that are none, and how many prompts were there before."""

    table: pa.Table  # schema UNSPLIT
    dead: pa.Table  # schema DEAD_LETTERS
    num_duplicates: int


class _NoPrompt(Exception):
    """A row that is no prompt: reason and detail of its dead letter."""


def load_prompts(
    section: Prompts,
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
        reasons = sorted(map(str, set(dead["reason"].to_pylist())))
        raise DataError(
            f"No prompt in {path or section.path!r}, column {section.column!r}: "
            f"{dead.num_rows} rows were refused {reasons}. Set {SETTING} and prompts.column."
        )
    limit = section.limit if limit is None and path is None else limit
    if limit is not None and limit < table.num_rows:
        table = table.take(_drawn_order(table, section.seed)[:limit])
    return LoadedPrompts(table, dead, sum(chunk.num_duplicates for chunk in chunks))


def iter_prompts(
    section: Prompts, path: str | Sequence[str] | None = None, require_reference: bool = False
) -> Iterator[LoadedPrompts]:
    """The prompts in chunks, each seen once; what is remembered is 16 bytes a prompt."""
    if "{prompt}" not in section.template:
        raise ConfigError(
            f"prompts.template is {section.template!r}; it needs {{prompt}} where the text goes."
        )
    seen: set[bytes] = set()
    for source, rows in _sources(section, path or section.path):
        while chunk := list(islice(rows, CHUNK_ROWS)):
            yield _convert(section, source, chunk, require_reference, seen)


def split_prompts(table: pa.Table, num_parallel: int, num_heldout: int, seed: int) -> pa.Table:
    """Give each prompt its split: parallel first, then heldout, the rest routed.

    The order is drawn by a hash of seed and prompt, so a split depends neither on the order of the
    rows nor on the machine, and every stretch of the table is a fair mix.

    Raises:
        ConfigError: there are fewer prompts than the parallel set and the held-out set need.
    """
    for name, wanted, available in (
        ("num_parallel", num_parallel, table.num_rows),
        ("num_heldout", num_heldout, table.num_rows - num_parallel),
    ):
        if wanted > available:
            raise ConfigError(
                f"prompts.{name} is {wanted}, but of {table.num_rows} prompts only "
                f"{max(available, 0)} can be taken: lower prompts.{name} or add prompts."
            )
    num_routed = table.num_rows - num_parallel - num_heldout
    splits = ["parallel"] * num_parallel + ["heldout"] * num_heldout + ["routed"] * num_routed
    ordered = table.take(_drawn_order(table, seed))
    return conform(
        ordered.append_column("split", pa.array(splits, pa.string())), PROMPTS, "prompts"
    )


def prompt_id_of(messages: Sequence[dict[str, str]]) -> str:
    """The id of a conversation: the first 32 hex digits of the SHA-256 of its canonical JSON."""
    canonical = json.dumps(
        [{"role": message["role"], "content": message["content"]} for message in messages],
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _drawn_order(table: pa.Table, seed: int) -> list[int]:
    texts = [f"{seed}:{prompt_id}" for prompt_id in table["prompt_id"].to_pylist()]
    keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _sources(section: Prompts, paths: str | Sequence[str]) -> Iterator[tuple[str, Numbered]]:
    """Name and rows of every source; what is missing is found before the first row is read."""
    needed = [section.column, section.reference_column, section.task_column]
    columns = [column for column in needed if column is not None]
    opened: list[tuple[str, Numbered]] = []
    for path in (paths,) if isinstance(paths, str) else paths:
        if path.startswith(HUB):
            opened.append((path, _hub_rows(section, path, columns)))
            continue
        for file in expand(path, SETTING):
            _require_columns(columns, columns_of(file), file)
            # A package's place, like the folder of a file, differs between machines.
            source = path if path.startswith(PACKAGE) else file.rsplit("/", 1)[-1]
            opened.append((source, rows_of(file, columns)))
    yield from opened


def _hub_rows(section: Prompts, path: str, columns: list[str]) -> Numbered:
    from datasets import Dataset, load_dataset  # 2 s that only hub data sets cost

    name = path.removeprefix(HUB)
    try:
        dataset = load_dataset(name, section.config, split=section.split)
    except Exception as error:  # its own errors, the network's and the file formats'
        raise ConfigError(
            f"Cannot load the data set {name!r} (prompts.config {section.config!r}, prompts.split "
            f"{section.split!r}): {error}. Set {SETTING}."
        ) from error
    assert isinstance(dataset, Dataset)
    _require_columns(columns, dataset.column_names, path)
    return iter(enumerate(dataset.select_columns(columns), start=1))  # pyright: ignore[reportReturnType]


def _require_columns(needed: list[str], present: list[str], where: str) -> None:
    absent = [column for column in needed if column not in present]
    if absent:
        raise ConfigError(
            f"{where} has no column {absent}; it has {present}. Set prompts.column, "
            "prompts.reference_column or prompts.task_column."
        )


def _convert(
    section: Prompts,
    source: str,
    chunk: list[tuple[int, Row | BadRow]],
    require_reference: bool,
    seen: set[bytes],
) -> LoadedPrompts:
    prompts: list[dict[str, Any]] = []
    dead: list[dict[str, str | None]] = []
    num_duplicates = 0
    for number, row in chunk:
        try:
            prompt = _prompt(section, source, row, require_reference)
        except _NoPrompt as refusal:
            reason, detail = refusal.args
            where = f"{source}, row {number}: {detail}"
            blank = {"prompt_id": None, "teacher": None}
            dead.append({"step": "prompts", "reason": reason, "detail": where, **blank})
            continue
        key = bytes.fromhex(prompt["prompt_id"])
        if key in seen:
            num_duplicates += 1
        else:
            seen.add(key)
            prompts.append(prompt)
    return LoadedPrompts(
        pa.Table.from_pylist(prompts, schema=UNSPLIT),
        pa.Table.from_pylist(dead, schema=DEAD_LETTERS),
        num_duplicates,
    )


def _prompt(
    section: Prompts, source: str, row: Row | BadRow, require_reference: bool
) -> dict[str, Any]:
    if isinstance(row, BadRow):
        raise _NoPrompt("unreadable_row", row.detail)
    messages = _messages(section, row.get(section.column))
    reference, task = _label(row, section.reference_column), _label(row, section.task_column)
    texts = [reference, task, *(message["content"] for message in messages)]
    if not all(_is_unicode(text) for text in texts if text is not None):
        raise _NoPrompt("invalid_unicode", "a text holds bytes or surrogates that are no UTF-8")
    if require_reference and reference is None:
        raise _NoPrompt("no_reference", f"column {section.reference_column!r} is empty")
    return {
        "prompt_id": prompt_id_of(messages),
        "messages": messages,
        "reference": reference,
        "task": task,
        "source": source,
    }


def _messages(section: Prompts, value: Any) -> Messages:
    """The conversation in a cell: text through the template, or messages as they stand."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise _NoPrompt("no_text", f"column {section.column!r} is empty")
    if isinstance(value, list):
        return _given_messages(value)
    if not isinstance(value, str):
        raise _NoPrompt(
            "wrong_type", f"column {section.column!r} holds no text but {type(value).__name__}"
        )
    # Not str.format: templates speak of \boxed{} and JSON.
    messages = [{"role": "user", "content": section.template.replace("{prompt}", value)}]
    if section.system_prompt is not None:
        messages.insert(0, {"role": "system", "content": section.system_prompt})
    return messages


def _given_messages(value: list[Any]) -> Messages:
    messages: Messages = []
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise _NoPrompt(
                "bad_messages",
                f"a message needs a role of {ROLES} and a text, found {message!r:.200}",
            )
        messages.append({"role": role, "content": content})
    if not messages or messages[-1]["role"] != "user":
        raise _NoPrompt("bad_messages", "the conversation does not end with a user message")
    if not messages[-1]["content"].strip():
        raise _NoPrompt("no_text", "the last user message is empty")
    return messages


def _label(row: Row, column: str | None) -> str | None:
    """A reference or task as text, None where there is none.

    Whole numbers lose the `.0` that a column of integers gains from an empty cell.
    """
    value = None if column is None else row.get(column)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = "" if value is None else str(value).strip()
    return text or None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
