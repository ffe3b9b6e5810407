"""Training examples in mapped files: what was written, in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from persyn_ray.errors import StepError
from persyn_ray.models.chat import Example
from persyn_ray.models.finetune.token_table import TokenTable, map_tokens, write_tokens
from persyn_ray.storage.schemas import TOKENS

from ..families import FAMILIES, VOCABULARY

ROWS = {"a": Example([1, 2, 3], 2), "b": Example([4], 1), "c": Example(list(range(500)), 7)}


def test_examples_come_back_from_several_files(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(
        [
            {"prompt_id": name, "ids": one.ids, "num_prompt_tokens": one.num_prompt_tokens}
            for name, one in ROWS.items()
        ],
        schema=TOKENS,
    )
    paths = [tmp_path / name for name in ("0.arrow", "1.arrow", "2.arrow")]
    for path, part in zip(paths, (table[:2], table[:0], table[2:]), strict=True):
        write_tokens(path, part)
    found = TokenTable(map_tokens(paths), pad_id=9)
    assert [found[number] for number in range(len(found))] == list(ROWS.values())
    assert found.lengths.tolist() == [3, 1, 500]
    assert found.name(2) == "c"
    assert found[3] == Example([9], 1)


def test_the_largest_token_is_found_with_its_prompt(tmp_path: Path) -> None:
    table = TokenTable.of(ROWS, pad_id=9)
    assert table.largest_token() == ("c", 499)
    path = tmp_path / "0.arrow"
    rows = pa.Table.from_pylist(
        [{"prompt_id": n, "ids": one.ids, "num_prompt_tokens": 1} for n, one in ROWS.items()],
        schema=TOKENS,
    )
    write_tokens(path, rows)
    assert TokenTable(map_tokens([path, path]), 9).largest_token() == ("c", 499)
    assert TokenTable(rows[:1], 9).largest_token() == ("a", 3)
    assert TokenTable(rows[1:2], 9).largest_token() == ("b", 4)
    assert TokenTable(rows[:0], 9).largest_token() is None


def test_tokens_that_the_student_has_no_embedding_for_are_refused() -> None:
    from persyn_ray.models.finetune.train import _require_known_tokens

    model = FAMILIES["llama"]()
    _require_known_tokens(model, TokenTable.of({"a": Example([1, VOCABULARY - 1], 1)}, 0))
    with pytest.raises(StepError, match=r"prompt b holds token 100, .* for 100 tokens, 0 to 99"):
        _require_known_tokens(model, TokenTable.of({"b": Example([1, VOCABULARY], 1)}, 0))


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_a_million_tokens_take_a_few_mib_of_a_worker(tmp_path: Path) -> None:
    """Private memory of a worker that has read every example once, above one that has read none."""
    script = f"""
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from persyn_ray.models.finetune.token_table import TokenTable, map_tokens, write_tokens
from persyn_ray.storage.schemas import TOKENS

def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

path = Path({str(tmp_path / "tokens.arrow")!r})
if sys.argv[1] == "write":
    ids = pa.ListArray.from_arrays(np.arange(0, 5_000_001, 1000, dtype=np.int32),
                                   np.arange(5_000_000, dtype=np.int32))
    names = pa.array([str(number) for number in range(5000)])
    prompt = pa.array(np.full(5000, 10, dtype=np.int32))
    write_tokens(path, pa.Table.from_arrays([names, ids, prompt], schema=TOKENS))
else:
    before = private()
    table = TokenTable(map_tokens([path]), 0)
    for number in range(len(table)):
        table[number]
    print(private() - before)
"""
    subprocess.run([sys.executable, "-c", script, "write"], check=True)
    read = subprocess.run(
        [sys.executable, "-c", script, "read"], check=True, capture_output=True, text=True
    )
    assert float(read.stdout.split()[-1]) / 5 < 20  # MiB a million tokens
