"""The signals on file: whole rows, each once, and as many as their card says."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

SIGNALS = Path(__file__).parents[2] / "benchmarks" / "signals"
TABLES = sorted(SIGNALS.glob("*.parquet"))
ROW = re.compile(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) \| ([\d,]+) \|$", re.M)


def test_the_card_counts_the_rows_that_are_there() -> None:
    told = {
        name: tuple(int(number.replace(",", "")) for number in numbers)
        for name, *numbers in ROW.findall((SIGNALS / "README.md").read_text(encoding="utf-8"))
    }
    counted = {}
    for path in TABLES:
        table = pq.read_table(path)
        distinct = (len(table[name].unique()) for name in ("prompt_id", "teacher"))
        counted[path.stem] = (*distinct, len(table))
    assert told == counted


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_is_whole_and_there_once(path: Path) -> None:
    table = pq.read_table(path)
    pairs = pa.TableGroupBy(table, ["prompt_id", "teacher"]).aggregate([([], "count_all")])
    assert len(pairs) == len(table) > 0
    prompts, teachers = (table[name].unique() for name in ("prompt_id", "teacher"))
    assert len(table) == len(prompts) * len(teachers)  # all teachers of every prompt
    for name in ("quality", "log_likelihood", "lowest_window", "rank_surprisal", "entropy"):
        assert table[name].null_count == 0
        assert pc.all(pc.is_finite(table[name])).as_py()
    assert pc.max(table["log_likelihood"]).as_py() <= 0
    assert 0 <= pc.min(table["quality"]).as_py() <= pc.max(table["quality"]).as_py() <= 1
    assert pc.min(table["num_tokens"]).as_py() >= 1
    assert pc.all(pc.less_equal(table["num_tokens"], table["num_response_tokens"])).as_py()
    assert 0 < table["local_log_likelihood"].null_count < len(table)
