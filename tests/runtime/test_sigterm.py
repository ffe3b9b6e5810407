"""SIGTERM while a step runs on Ray: in order, and at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from persyn_ray.recipe.recipe import Recipe

Make = Callable[..., Recipe]
# Where Ray had given SIGTERM back, agents of a raylet that was killed notice it themselves and then
# try to tell a server that is gone too: for a minute, if not told otherwise.
QUICK_AGENTS = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.mark.parametrize("num_signals", [1, 2])
def test_a_step_on_ray_ends_with_all_its_processes(
    make_recipe: Make, tmp_path: Path, num_signals: int
) -> None:
    changes = {
        "prompts.num_parallel": 200,
        "prompts.shard_rows": 1,
        "resources.score_with_collect": False,  # or torch would be loaded beside it
    }
    recipe = make_recipe(changes, num_prompts=210)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    environment = {name: of for name, of in os.environ.items() if name != "RAY_ADDRESS"}
    if num_signals == 2:
        environment |= QUICK_AGENTS
    command = [sys.executable, "-m", "persyn_ray.cli.main", "run", str(path), "--until", "collect"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    responses = tmp_path / "run" / "tables" / "responses"
    while not list(responses.rglob("*.parquet")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in children)
    process.send_signal(signal.SIGTERM)
    if num_signals == 2:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=300)
    # Ray gives SIGTERM back to the system while it shuts down: a second one may end the process
    # there and then, which every shell tells as 143 too.
    assert process.returncode in ({143} if num_signals == 1 else {143, -signal.SIGTERM})
    assert "***" not in told
    assert "Traceback" not in told
    # In order, nobody is left to notice by himself: that would take a minute.
    assert psutil.wait_procs(children, timeout=40 if num_signals == 1 else 150)[1] == []
    if num_signals == 1:
        assert "finished and kept: prompts. Begun: collect" in " ".join(told.split())
        assert "goes on where this one stopped" in " ".join(told.split())
