"""Tables of measured figures in README.md and docs/: benchmarks/results/*.json in, Markdown out.

    python docs/hooks/result_tables.py     # rewrites what stands between the marks

The marks are <!-- table NAME --> and <!-- end of table -->.

A test holds that the committed tables are those of the committed results.
"""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from markdown_tables import METHODS, ROOT, Rows, compared_students, interval, p_value, result, table
from real_student_tables import real_floor, real_methods, real_predicted
from real_teacher_tables import prefill, real, screening, sizes, transfer
from student_table import student_tables
from system_tables import systems
from view_table import view_table

MARKED = re.compile(r"(<!-- table (\w+) -->\n)(.*?)(<!-- end of table -->)", re.S)

SHORT = (
    "before",
    "random",
    "strong",
    "best_constant",
    "quality_only",
    "learnability_only",
    "linear_probe",
    "knn",
    "persyn",
    "oracle",
)


def evidence() -> str:
    """Students of ten seeds of the lab, and PerSyn's difference from each."""
    main = result("evidence")["experiments"]["main"]
    rows = [(METHODS[name], *cells) for name, cells in compared_students(main).items()]
    head = ("data from", "share right", "student accuracy", "PerSyn minus it", "p")
    return table(head, rows)


def evidence_second() -> str:
    """What methods choose in the lab's second world; students where they were tuned."""
    experiments = result("evidence_second")["experiments"]
    routing, main = experiments["routing"], experiments.get("main", {})
    accuracy, differences = main.get("accuracy", {}), main.get("difference", {})
    known = routing["correct_share"].keys() | accuracy.keys()
    rows: Rows = []
    for name in (one for one in METHODS if one in known):
        right = routing["right_by_length"].get(name)
        cells = [METHODS[name], "–", "–", "–", "–", "–", "–"]
        if right is not None:
            cells[1] = f"{right['short']:.2f}, {right['long']:.2f}"
            cells[2] = f"{routing['mean_log_likelihood'][name]:.2f}"
            cells[3] = f"{routing['like_the_oracle'][name]['mean']:.2f}"
        if name in accuracy:
            cells[4] = interval(accuracy[name], 3)
        if name in differences:
            cells[5] = interval(differences[name], 3, "+")
            cells[6] = p_value(differences[name], main["p_after_holm"].get(name))
        rows.append(tuple(cells))
    head = (
        "data from",
        "right: short, long",
        "log-likelihood",
        "best teacher",
        "student accuracy",
        "PerSyn minus it",
        "p",
    )
    width = len(head) if accuracy else 4
    return table(head[:width], [row[:width] for row in rows])


def both_worlds() -> str:
    """Students of the lab's two worlds, and PerSyn's difference from each."""
    worlds = [result(name)["experiments"]["main"] for name in ("evidence", "evidence_second")]
    rows: Rows = []
    for name in SHORT:
        cells = [METHODS[name]]
        for world in worlds:
            difference = world["difference"].get(name)
            cells.append(f"{world['accuracy'][name]['mean']:.3f}")
            cells.append("–" if difference is None else interval(difference, 3, "+"))
        rows.append(tuple(cells))
    head = ("data from", "first world", "PerSyn minus it", "second world", "PerSyn minus it")
    return table(head, rows)


def quickstart() -> str:
    """One seed of the lab, as `jobs/quickstart.yaml` runs it."""
    figures = result("quickstart")["figures"]
    students, routed = figures["student_accuracy"], figures["routed_reward"]
    rows = []
    for name in (one for one in METHODS if one in students or one in routed):
        share = students.get(name, {}).get("correct_share")
        measured = (
            interval(of[name], key="value") if name in of else "–" for of in (routed, students)
        )
        label = METHODS[name].removesuffix(" †")
        rows.append((label, f"{share:.2f}" if share else "–", *measured))
    return table(("data from", "share right", "routed reward (held out)", "student accuracy"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "evidence": evidence,
    "evidence_second": evidence_second,
    "both_worlds": both_worlds,
    "quickstart": quickstart,
    "real": partial(
        real,
        (
            *("table", "teachers", "goes by", "best constant", "best per task", "k-NN", "stacked"),
            *("auto", "oracle", "auto minus best constant", "gap closed"),
        ),
    ),
    "real_short": partial(
        real,
        (
            *("table", "goes by", "best constant", "best per task", "auto", "oracle"),
            "auto minus best constant",
        ),
    ),
    "prefill": prefill,
    "real_floor": real_floor,
    "real_methods": real_methods,
    "real_predicted": real_predicted,
    "screening": screening,
    "student": lambda: "\n".join(table(*one) for one in student_tables(result("sft"))),
    "transfer": transfer,
    "sizes": sizes,
    "systems": systems,
    "view": lambda: table(*view_table(result("view"))),
}


def filled(text: str) -> str:
    """A page with its tables made anew."""
    return MARKED.sub(lambda part: part[1] + "\n" + TABLES[part[2]]() + "\n" + part[4], text)


def pages() -> list[Path]:
    """Pages that may hold tables of results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
