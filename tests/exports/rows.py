"""Rows as forms get them, in memory: hostile texts in every place of a conversation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from persyn_ray.storage.schemas import ROUTED

HOSTILE = (
    "plain",
    "",
    " leading and trailing \n\n",
    "".join(map(chr, range(1, 32))) + "\x7f\x85 controls",
    "nul \x00 within",
    "line\u2028separator\u2029paragraph\r\nwindows\rmac",
    "emoji 👩‍👩‍👧‍👦 \U0001f1e9\U0001f1ea and \U00020000",
    "قرأ ‏rtl‎ \u202e override",
    "combining e\u0301 against \u00e9, \ufeff bom, \ufffd replacement",
    '{"json": "in \\" text"}, <|im_end|>, </s>, {{ jinja }}, {% raw %}',
    "<think>\nfirst this\n</think>\n\nthen 42",
    "2026-11-26",
    "2026-11-26T16:00:00Z",
    "1e309",
    "null",
    "true",
    "a,b\t\"c\";'d'",
    "x" * 70_000,
)
"""Texts that writers and loaders have been seen to change."""


@dataclass(frozen=True)
class TableRows:
    """ROUTED rows in memory, two a batch."""

    rows: tuple[dict[str, Any], ...]

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        chosen = [row for row in self.rows if row["split"] == split]
        yield from pa.Table.from_pylist(chosen, schema=ROUTED).to_batches(max_chunksize=2)

    def of(self, split: str) -> list[dict[str, Any]]:
        """The rows of a split as they went in."""
        return [row for row in self.rows if row["split"] == split]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def routed(number: int, split: str, teacher: str | None, **changes: Any) -> dict[str, Any]:
    """One ROUTED row: a question and, but for prompts alone, a response."""
    said = [] if split in ("assigned", "heldout") else [turn("assistant", f"response {number}")]
    row = dict.fromkeys(ROUTED.names) | {
        "id": f"{split}-{number}-{teacher}",
        "prompt_id": f"p{number}",
        "split": split,
        "teacher": teacher,
        "messages": [turn("user", f"question {number}"), *said],
        "source": "prompts.jsonl:1",
    }
    return row | changes


def conversations() -> list[list[dict[str, str]]]:
    """Every hostile text in every place of a conversation, with and without a system prompt."""
    found = []
    for number, text in enumerate(HOSTILE):
        other = HOSTILE[(number + 1) % len(HOSTILE)]
        found.append([turn("user", text or "?"), turn("assistant", other or "!")])
        found.append(
            [
                turn("system", other),
                turn("user", text or "?"),
                turn("assistant", text or "!"),
                turn("user", other or "?"),
                turn("assistant", text or "!"),
            ]
        )
    return found
