"""A training on a spot node: saved when that gets notice, gone on with by one worker alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_notice_makes_a_checkpoint_from_which_the_workers_that_stay_go_on(tmp_path: Path) -> None:
    script = Path(__file__).with_name("changing_workers.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1700,
        env=environment | {"RAY_AUTH_MODE": "disabled"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith('{"training": ')]
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
