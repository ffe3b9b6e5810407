"""The assignment alone: rows of a run in, a table of prompts, teachers and probabilities out."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from persyn_ray.exports.form import Facts, Rows, Written, records
from persyn_ray.exports.writing import write_parquet

HOW = """The same rows twice, as Parquet and as CSV: the prompt's id, its teacher, the margin to the
runner-up in the router's logits, the distance to the parallel set (`novelty`), and for each teacher
the probability that the router gives it (`p_NAME`; empty where it was no candidate)."""
Fact = Literal["prompt_id", "teacher", "margin", "novelty", "is_novel", "task"]
FACTS: tuple[Fact, ...] = get_args(Fact)
KINDS = (pa.string(), pa.string(), pa.float64(), pa.float64(), pa.bool_(), pa.string())


def assignment(rows: Rows, where: Path, facts: Facts) -> Written:
    """`assignment.parquet` and `assignment.csv`, a row for each prompt that has a teacher."""
    teachers = [teacher.name for teacher in facts.teachers if not teacher.retired]
    schema = pa.schema(
        [
            *map(pa.field, FACTS, KINDS),
            *(pa.field(f"p_{name}", pa.float64()) for name in teachers),
        ]
    )
    num_rows = write_parquet(where / "assignment.parquet", _rows(rows, teachers), schema)
    _write_csv(where / "assignment.csv", _rows(rows, teachers), schema.names)
    return Written(("assignment.parquet", "assignment.csv"), num_rows, HOW)


def _rows(rows: Rows, teachers: Iterable[str]) -> Iterator[Mapping[str, object]]:
    for row in records(rows, "assigned"):
        chances: dict[str, object] = {
            of["teacher"]: of["probability"] for of in row["router_probabilities"] or ()
        }
        known: dict[str, object] = {name: row[name] for name in FACTS}
        yield known | {f"p_{name}": chances.get(name) for name in teachers}


def _write_csv(path: Path, rows: Iterable[Mapping[str, object]], names: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)  # ends lines by \r\n, or a lone \r is not quoted
        writer.writeheader()
        writer.writerows(rows)
