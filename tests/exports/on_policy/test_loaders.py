"""On-policy forms as the tools' own loaders read them, in environments of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.storage.folder import Folder

from .. import tools
from ..rows import TableRows
from .conftest import ALIKE
from .test_forms import is_long

pytestmark = [pytest.mark.exports, pytest.mark.timeout(1800)]
Row = dict[str, Any]
Record = Callable[[str, str], None]


@pytest.fixture
def read(routed_rows: TableRows, routed_facts: Facts, student: str, tmp_path: Path):
    """What a loader in a tool's environment makes of forms."""

    def of(tool: str, loader: str, *forms: str) -> dict[str, Any]:
        for form in forms:
            export(form_named(form), routed_rows, routed_facts, Folder(str(tmp_path / form)))
        script = tools.LOADERS / f"{loader}.py"
        out = tools.run(tool, script, student, tmp_path, *forms, cwd=tmp_path, seconds=1700)
        return json.loads(out.strip().splitlines()[-1])

    return of


def require_all(found: dict[str, Any], wanted: list[Row], column: str = "messages") -> None:
    """Every row with its texts and its teacher, and none left on the way."""
    told = zip(found["rows"], found["teachers"], strict=True)
    sent = [(row[column], row["teacher"]) for row in wanted]
    assert sorted(map(json.dumps, told)) == sorted(map(json.dumps, sent))
    assert found["num_prepared"] == len(wanted)


def of_alike(rows: TableRows, split: str) -> list[Row]:
    return [row for row in rows.of(split) if row["teacher"] in ALIKE]


def test_verl(read, routed_rows: TableRows, student: str, record_property: Record) -> None:
    found = read("verl", "read_verl", "verl")["verl"]
    require_all(found, of_alike(routed_rows, "assigned"))
    assert found["models"] == {name: [student, "auto"] for name in ALIKE}
    assert found["reward"] == 0
    record_property("accepted", "verl")  # benchmarks/exports.py reads these


def test_ms_swift(read, routed_rows: TableRows, record_property: Record) -> None:
    found = read("ms_swift", "read_ms_swift_gkd", "ms-swift-gkd")["ms-swift-gkd"]
    require_all(found, of_alike(routed_rows, "assigned"))
    assert found["type"] == "gkd"
    record_property("accepted", "ms-swift-gkd")


def test_trl_trains_a_step_with_each_teacher(
    read, routed_rows: TableRows, student: str, record_property: Record
) -> None:
    found = read("trl", "read_trl_on_policy", "trl-gkd", "trl-gold", "trl-distillation")
    require_all(found["trl-distillation"], of_alike(routed_rows, "assigned"))
    assert found["trl-distillation"]["models"] == dict.fromkeys(ALIKE, student)
    taken = [row for row in routed_rows.of("train") if not is_long(row["messages"])]
    alike = [row for row in taken if row["teacher"] in ALIKE]
    require_all(found["trl-gkd"], alike)
    require_all(found["trl-gold"], [row for row in taken if row["teacher"] != "unknown"])
    assert len(found["trl-gkd"]["losses"]) == len(ALIKE)
    # The last teacher is the one with other tokens and other weights.
    assert found["trl-gold"]["losses"][-1] > 1e-3
    assert found["trl-gold"]["student"] == "student-stranger"
    record_property("accepted", ",".join(found))
    record_property("trained", "trl-gkd,trl-gold")
