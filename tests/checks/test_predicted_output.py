"""Predicted outputs of programs, as models state them."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from persyn_ray.checks.code.predicted_output import predicts
from persyn_ray.checks.verifier import CORRECT, NO_ANSWER, WRONG, Verdict

DATA = Path(__file__).parents[2] / "../shared/data/crux_parallel.parquet"


@pytest.mark.parametrize(
    ("response", "reference", "verdict"),
    [
        ('{"reasoning": "…", "answer": "[1, 2]"}', "[1, 2]", CORRECT),
        ('{"answer": ["a", null, true]}', "['a', None, True]", CORRECT),
        ('{"answer": {"b": 1}}', "{'b': 1}", CORRECT),
        ("{\"answer\": ('a', 1)}", "('a', 1)", CORRECT),
        ('{"answer": "1"} no: {"answer": "2"}', "2", CORRECT),
        ("[ANSWER]f(3) == 'ab'[/ANSWER]", "'ab'", CORRECT),
        ("[ANSWER]assert f([1]) == [1]\n[/ANSWER]", "[1]", CORRECT),
        ("So:\n```python\nassert f(2) == {1: 'x'}\n```", "{1: 'x'}", CORRECT),
        ("The output is: [3]", "[3]", CORRECT),
        ("First this.\n\n`'yes'`", "'yes'", CORRECT),
        ("**4**", "4", CORRECT),
        ("4", "5", WRONG),
        ("1", "True", WRONG),
        ("[1, 2]", "(1, 2)", WRONG),
        ("1.0", "1", WRONG),
        ("'4'", "4", WRONG),
        ("I cannot tell.", "4", NO_ANSWER),
        ("", "4", NO_ANSWER),
        ("[" * 100_000, "4", NO_ANSWER),
        ("[1, [...]]", "4", WRONG),
    ],
)
def test_values_are_found_and_compared_with_their_type(
    response: str, reference: str, verdict: Verdict
) -> None:
    assert predicts(response, reference) == verdict


def test_nothing_that_is_stated_is_run(tmp_path: Path) -> None:
    place = tmp_path / "made"
    assert predicts(f"open({str(place)!r}, 'w')", "4") == NO_ANSWER
    assert not place.exists()


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA.name} is absent")
def test_published_verdicts_of_sixteen_models_are_met() -> None:
    rows = pq.read_table(DATA, columns=["response", "answer", "score"]).to_pylist()
    differs = [
        row for row in rows if (predicts(row["response"], row["answer"]) == CORRECT) != row["score"]
    ]
    # Those that differ state the right dictionary as a JSON object, which the origin does not read,
    # or an expression in place of a value.
    assert len(differs) <= 20
    assert sum(row["score"] for row in differs) <= 1
