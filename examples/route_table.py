"""Fits a router on a table of prompts with a reward for each teacher, and routes another table.

python examples/route_table.py [FOLDER]       # for tables and router; runs/route-table by default

The rewards here stand in for yours: of three teachers each is right about its own kind of problem.
Measured ones are `persyn.rewards(quality, learnability)`, see first_steps.ipynb.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import persyn_ray as persyn
from persyn_ray.lab.tasks import generate

BEST = {"add": "sums", "sort": "lists", "max": "lists", "rev": "strings"}
TEACHERS = ("sums", "lists", "strings")


def write_tables(folder: Path, num_known: int, num_open: int) -> None:
    """known.parquet with rewards, and open.parquet with prompts that wait for a teacher."""
    folder.mkdir(parents=True, exist_ok=True)
    problems = generate(num_known + num_open, seed=3)
    known = [
        {"prompt": one.prompt} | {name: float(BEST[one.task] == name) for name in TEACHERS}
        for one in problems[:num_known]
    ]
    waiting = [{"prompt": one.prompt, "kind": one.task} for one in problems[num_known:]]
    pq.write_table(pa.Table.from_pylist(known), folder / "known.parquet")
    pq.write_table(pa.Table.from_pylist(waiting), folder / "open.parquet")


def main(folder: str = "runs/route-table", num_known: int = 240, num_open: int = 80) -> None:
    """Write the tables, fit and save the router, write routed.parquet."""
    place = Path(folder)
    write_tables(place, num_known, num_open)

    known = pq.read_table(place / "known.parquet")
    settings = persyn.RouterConfig.model_validate(
        {
            "backbone": {"name": "package:persyn_ray/lab/assets/student"},
            "freeze_backbone": True,  # fit the head alone: seconds; False fits all of it
            "learning_rate": 1e-2,
            "epochs": 10,
        }
    )
    router = persyn.fit_router(known["prompt"], known.select(list(TEACHERS)), settings=settings)
    router.save(place / "router")  # `persyn route` and `persyn serve` read this folder too

    table = pq.read_table(place / "open.parquet")
    routes = router.route(table["prompt"]).to_arrow()
    for name in routes.column_names:
        table = table.append_column(name, routes[name])
    pq.write_table(table, place / "routed.parquet")
    rows = table.to_pylist()
    right = sum(BEST[row["kind"]] == row["teacher"] for row in rows)
    print(f"{right} of {len(rows)} prompts went to the teacher that is right about their kind.")


if __name__ == "__main__":
    main(*sys.argv[1:])
