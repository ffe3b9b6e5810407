"""A training on a spot node: saved when that gets notice, gone on with by one worker alone."""

import json
from pathlib import Path

import pytest

from .own_cluster import printed_by


@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_notice_makes_a_checkpoint_from_which_the_workers_that_stay_go_on(tmp_path: Path) -> None:
    lines = printed_by("changing_workers.py", tmp_path)
    (line,) = [line for line in lines if line.startswith('{"training": ')]
    seen = json.loads(line)["training"]
    assert seen["failure"] == ""
    assert not seen["alive"]
    assert seen["began_with"] == 2
    assert seen["drain_accepted"]
    # Once, however long the notice lasts; no other checkpoint was asked for.
    (saved,) = seen["saved"]
    assert saved > seen["noticed_at"]
    assert seen["went_on_from"] == [saved]
    assert seen["alone"] == list(range(saved + 1, seen["last"] + 1))
    assert seen["last"] == 60
