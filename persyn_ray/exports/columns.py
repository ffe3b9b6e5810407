"""Columns that several forms share: rows and pairs in, Python rows and their Arrow schema out."""

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from persyn_ray.exports.form import Message, RoutedRow, Rows, records
from persyn_ray.exports.preferences import Pair
from persyn_ray.storage.schemas import MESSAGES

Row = dict[str, object]
"""A row of a form, and settings of a tool."""
DATA = "train.parquet"
"""Name of the file with the rows."""
_TEXT, _NUMBER = pa.string(), pa.float64()
KEYS = [pa.field("id", _TEXT), pa.field("teacher", _TEXT)]
"""What says where a row comes from; trainers leave them aside."""
PAIR_KEYS = [
    pa.field("id", _TEXT),
    pa.field("margin", _NUMBER),
    pa.field("chosen_teacher", _TEXT),
    pa.field("rejected_teacher", _TEXT),
    pa.field("chosen_reward", _NUMBER),
    pa.field("rejected_reward", _NUMBER),
]
SIDE_KEYS = [*KEYS, pa.field("reward", _NUMBER)]
CONVERSATIONS = pa.schema([pa.field("messages", MESSAGES), *KEYS])


def keys(row: RoutedRow) -> Row:
    """The values of KEYS."""
    return {"id": row["id"], "teacher": row["teacher"]}


def conversations(rows: Rows) -> Iterator[Mapping[str, object]]:
    """CONVERSATIONS: each example as it is."""
    return ({"messages": row["messages"]} | keys(row) for row in records(rows, "train"))


def pair_keys(pair: Pair) -> Row:
    """The values of PAIR_KEYS."""
    return {name.name: getattr(pair, name.name) for name in PAIR_KEYS}


def sides(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Message, bool, Row]]:
    """Both responses of each pair by themselves: the message, whether it is the chosen one, and the
    values of SIDE_KEYS.
    """
    for pair in pairs:
        for response, label, teacher, reward in (
            (pair.chosen, True, pair.chosen_teacher, pair.chosen_reward),
            (pair.rejected, False, pair.rejected_teacher, pair.rejected_reward),
        ):
            side = "chosen" if label else "rejected"
            of = {"id": f"{pair.id}-{side}", "teacher": teacher, "reward": reward}
            yield pair, response, label, of


def alternates(messages: list[Message]) -> bool:
    """Whether user and assistant take turns, after at most one system message, and the user begins.

    Some tools skip every other conversation without a word that stops a run.
    """
    roles = [turn["role"] for turn in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    return bool(spoken) and all(
        role == ("user", "assistant")[place % 2] for place, role in enumerate(spoken)
    )
