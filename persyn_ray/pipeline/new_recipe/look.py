"""Looks at a file of prompts: paths in; its columns, what each is good for, and sizes out."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from persyn_ray.data.cells import label_of, text_of
from persyn_ray.data.conversations import NoConversation, messages_of
from persyn_ray.data.files.json_rows import BadRow
from persyn_ray.data.files.rows import expand, rows_of
from persyn_ray.data.prompts import HUB, load_prompts
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.data import PromptsConfig

PROMPT_NAMES = (
    *("prompt", "messages", "conversations", "conversation", "instruction", "question"),
    *("problem", "query", "input", "text", "task_description"),
)
REFERENCE_NAMES = (
    *("reference", "answer", "final_answer", "ground_truth", "gold", "target", "expected"),
    *("solution", "label", "expected_answer"),
)
TASK_NAMES = ("task", "category", "subject", "domain", "topic", "type", "source", "level")
ROWS_LOOKED_AT = 1000
SHORT = 60  # characters: longer answers are texts, which no check compares
MARKED = ("####", "\\boxed")  # texts that end in a short answer
MOST_TASKS = 50


@dataclass(frozen=True)
class Looked:
    """What a file of prompts is good for."""

    path: str
    columns: tuple[str, ...]
    column: str
    """With the prompt."""
    reference_column: str | None
    """With right answers that a check can compare with."""
    task_column: str | None
    num_prompts: int
    """Different ones that can be read."""

    @property
    def num_parallel(self) -> int:
        """A fifth of the prompts, half of a small file, and at most the paper's 2500."""
        return max(1, min(2500, max(self.num_prompts // 5, min(100, self.num_prompts // 2))))

    @property
    def num_heldout(self) -> int:
        """A tenth of the prompts, at most 500; none where no answer can be checked."""
        return min(500, self.num_prompts // 10) if self.reference_column else 0


def look_at(path: str, column: str | None = None) -> Looked:
    """Read a file's first rows for its columns, and all of it for the number of its prompts.

    Args:
        column: with the prompt; found by its name and content if not given.

    Raises:
        ConfigError: there is no such file, or no column with prompts in it.
        DataError: the file is damaged, or no row is a prompt.
    """
    if path.startswith(HUB):
        raise ConfigError(
            f"`persyn init` looks at files, and {path} is on the hub. Without flags it writes a "
            "template, in which prompts.path may name it."
        )
    rows = _first_rows(path)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    if column is not None and column not in columns:
        raise ConfigError(f"{path} has no column {column!r}; it has {list(columns)}: --column")
    chosen = column or _prompt_column(path, columns, rows)
    others = [name for name in columns if name != chosen]
    section = PromptsConfig(path=path, column=chosen)  # pyright: ignore[reportCallIssue]
    return Looked(
        path,
        columns,
        chosen,
        next((n for n in _named(REFERENCE_NAMES, others) if _is_checkable(rows, n)), None),
        next((n for n in _named(TASK_NAMES, others) if _is_label(rows, n)), None),
        load_prompts(section).table.num_rows,
    )


def _first_rows(path: str) -> list[dict[str, Any]]:
    found = (row for file in expand(path, "--prompts") for _, row in rows_of(file))
    rows = [row for row in islice(found, ROWS_LOOKED_AT) if not isinstance(row, BadRow)]
    if not rows:
        raise DataError(f"{path} holds no rows that can be read: --prompts")
    return rows


def _named(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns with one of some names, in the order of the names, whatever their capitals."""
    plain = {column.strip().lower(): column for column in reversed(columns)}
    return [plain[name] for name in names if name in plain]


def _prompt_column(path: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """A column of a usual name, or the only one with texts in every row."""
    for name in _named(PROMPT_NAMES, columns):
        if _holds_prompts(rows, name):
            return name
    texts = [name for name in columns if _holds_prompts(rows, name)]
    if len(texts) == 1:
        return texts[0]
    raise ConfigError(
        f"Which column of {path} holds the prompts? It has {list(columns)}: --column NAME"
    )


def _holds_prompts(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether most cells are text or a conversation."""
    return sum(_is_prompt(row.get(name)) for row in rows) > len(rows) / 2


def _is_prompt(cell: Any) -> bool:
    try:
        return messages_of(cell) is not None or (isinstance(cell, str) and bool(cell.strip()))
    except NoConversation:
        return False


def _is_checkable(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether most cells are short answers, or texts that end in a marked one."""
    cells = [text for row in rows if (text := label_of(row.get(name))) is not None]
    if len(cells) < 0.9 * len(rows):
        return False
    is_short = statistics.median(map(len, cells)) <= SHORT
    marked = sum(any(mark in text for mark in MARKED) for text in cells)
    return is_short or marked > len(cells) / 2


def _is_label(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether a column holds few different short texts."""
    cells = [text_of(row.get(name)) for row in rows]
    values = {cell for cell in cells if cell}
    return 1 < len(values) <= MOST_TASKS and max(map(len, values)) <= SHORT
