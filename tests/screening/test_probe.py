"""Probes from tables as people have them, and the command on them."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.screening.probe import Columns, Probe, Weighing, probe_of_table

ROWS = [
    {"prompt": "one", "teacher": "a", "score": 1, "task": "x"},
    {"prompt": "one", "teacher": "b", "score": "0.5", "task": "x"},
    {"prompt": "two", "teacher": "a", "score": True, "task": "y"},
    {"prompt": "two", "teacher": "a", "score": 0, "task": "y"},
    {"prompt": "two", "teacher": "b", "score": None, "task": "y"},
    {"prompt": "three", "teacher": None, "score": 1, "task": "y"},
]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(address: str) -> Probe:
    return probe_of_table([address], Columns(), Weighing(), 0)


def test_rows_become_a_matrix_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    probe = read(write(tmp_path / "rows.jsonl", ROWS))
    by_text = dict(zip(probe.texts, probe.data.rewards_NM.tolist(), strict=True))
    assert probe.data.teachers == ("a", "b")
    assert by_text["one"] == [1.0, 0.5]
    assert by_text["two"][0] == 1.0
    assert np.isnan(by_text["two"][1])
    assert any("repeat" in note for note in probe.notes)
    assert any(note.startswith("2 rows without") for note in probe.notes)


def test_learnability_enters_the_reward(tmp_path: Path) -> None:
    rows = [
        {"prompt": p, "teacher": t, "score": 1, "learnability": nats}
        for p in ("one", "two")
        for t, nats in (("a", -1.0), ("b", -3.0))
    ]
    probe = read(write(tmp_path / "rows.jsonl", rows))
    np.testing.assert_allclose(probe.data.rewards_NM, [[0.4, 0.0]] * 2)
    assert set(probe.signals) == {"score", "learnability"}


def test_a_missing_column_and_an_empty_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="score"):
        read(write(tmp_path / "a.jsonl", [{"prompt": "one", "teacher": "a"}]))
    with pytest.raises(DataError, match="No row"):
        read(write(tmp_path / "b.jsonl", [{"prompt": "one", "teacher": "a", "score": None}]))


def test_the_command_says_yes_where_teachers_are_specialists(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "question": f"No. {n}",
            "teacher": f"t{m}",
            "score": int(rng.random() < 0.4 + 0.5 * (n % 3 == m)),
            "task": "abc"[n % 3],
        }
        for n in range(150)
        for m in range(3)
    ]
    table = write(tmp_path / "rows.jsonl", rows)
    shown = CliRunner().invoke(app, ["screen", table, "--prompt", "question"])
    assert shown.exit_code == 0, shown.output
    assert "Will routing pay?  yes" in shown.output
    assert "best teacher per task" in " ".join(shown.output.split())
