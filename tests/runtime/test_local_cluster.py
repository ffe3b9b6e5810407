"""The Jobs API against a real cluster of several raylets, which `cluster/local.sh` starts: a job
streams its log, is stopped, goes on where it was; nobody gets in without the token."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from persyn_ray.recipe.recipe import Recipe

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "cluster" / name for name in ("local.sh", "submit.sh")]
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}
Variables = dict[str, str]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = subprocess.run([shellcheck, str(script)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_without_a_cluster_it_says_what_to_do(tmp_path: Path) -> None:
    done = local("status", clean_variables() | {"PERSYN_CLUSTER_DIR": str(tmp_path)}, check=False)
    assert done.returncode == 1
    assert "run 'cluster/local.sh up'" in done.stderr


def clean_variables() -> Variables:
    """Ours without what another Ray left in them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"OMP_NUM_THREADS": "1"}


class Told(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def local(command: str, variables: Variables, check: bool = True) -> Told:
    """Run a command of local.sh; pipes for its output would be held open by what it starts."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        arguments = ["bash", str(SCRIPTS[0]), *command.split()]
        done = subprocess.run(arguments, env=variables, stdout=out, stderr=errors, timeout=900)
        for file in (out, errors):
            file.seek(0)
        told = Told(done.returncode, out.read(), errors.read())
    assert not check or told.returncode == 0, told.stderr
    return told


@pytest.fixture
def cluster_variables() -> Iterator[Variables]:
    """A head, a CPU worker and a worker with two GPUs; what a client of it needs to know."""
    # Not tmp_path: the names of sockets lie below and may not be long.
    folder = tempfile.mkdtemp(prefix="pc-", dir="/tmp")
    variables = clean_variables() | {"PERSYN_CLUSTER_DIR": folder}
    try:
        local("up --cpu-workers 1 --gpu-workers 1 --cpus 2 --gpus 2", variables)
        mark = Path(folder, "mark").read_text().strip()
        exports = [line.split(" ", 1)[1] for line in local("env", variables).stdout.splitlines()]
        yield variables | dict(line.split("=", 1) for line in exports)
        local("down", variables)
        assert not marked(mark), "processes of the cluster are left"
        assert not Path(folder).exists(), "files of the cluster are left"
    finally:
        local("down", variables, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def marked(mark: str) -> list[str]:
    """Processes that carry the cluster's mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PERSYN_CLUSTER_MARK={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended meanwhile
            continue
    return found


def until(what: Callable[[], Any], seconds: float, told: Callable[[], str]) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)
    return found


@pytest.fixture
def recipe_file(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Path:
    """Scripted teachers that take a GPU each, and more shards than a job writes in a moment."""
    resources = {"gpus": 1, "cpus": 1, "load_seconds": 1}
    teachers = [
        {"name": name, "engine": {"kind": "scripted"}, "resources": resources}
        for name in ("a", "b", "c")
    ]
    changes = {
        "teachers": teachers,
        "prompts.num_parallel": 240,
        "prompts.num_heldout": 0,
        "prompts.shard_rows": 3,
        "resources.score_with_collect": False,  # or torch would be loaded beside it
    }
    recipe = make_recipe(changes, num_prompts=250)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path


@pytest.mark.ray
@pytest.mark.timeout(2400)
def test_a_job_is_stopped_and_goes_on_and_strangers_are_refused(
    cluster_variables: Variables, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = local("status", cluster_variables).stdout.splitlines()
    sizes = sorted(line.split("ALIVE")[1].split() for line in nodes)
    assert sizes == [["0", "CPU", "0", "GPU"], ["2", "CPU", "0", "GPU"], ["2", "CPU", "2", "GPU"]]
    refuse_strangers(cluster_variables["RAY_API_SERVER_ADDRESS"])

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, cluster_variables[name])
    token = Path(cluster_variables["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o777 == 0o600
    headers = {"Authorization": f"Bearer {token.read_text()}"}
    client = JobSubmissionClient(cluster_variables["RAY_API_SERVER_ADDRESS"], headers=headers)
    command = f"persyn run {recipe_file} --until collect"
    run = Path(yaml.safe_load(recipe_file.read_text())["run"])

    first = client.submit_job(entrypoint=command, runtime_env={"working_dir": str(ROOT / "jobs")})
    until(
        lambda: list((run / "tables" / "responses").rglob("*.parquet")),
        600,
        lambda: client.get_job_logs(first),
    )
    record = (run / "records" / "prompts.json").read_bytes()
    assert "prompts" in client.get_job_logs(first)
    assert client.stop_job(first)
    until(lambda: client.get_job_status(first) in ENDED, 300, lambda: "the job was not stopped")
    assert client.get_job_status(first) == JobStatus.STOPPED
    assert not (run / "records" / "collect.json").exists()
    responses = run / "tables" / "responses"
    written = sum(pq.read_metadata(path).num_rows for path in responses.rglob("*.parquet"))

    log = submitted_by_script(recipe_file, cluster_variables)
    assert "prompts     done before" in log
    assert (run / "records" / "prompts.json").read_bytes() == record
    asked = json.loads((run / "records" / "collect.json").read_text())["result"]["rows"]
    assert asked <= 3 * 240 - written
    pairs = [
        (row["teacher"], row["prompt_id"])
        for path in responses.rglob("*.parquet")
        for row in pq.read_table(path, columns=["teacher", "prompt_id"]).to_pylist()
    ]
    assert len(pairs) == len(set(pairs)) == 3 * 240


def refuse_strangers(api: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        request = urllib.request.Request(f"{api}/api/jobs/", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=150)
        assert refused.value.code in (401, 403)


def submitted_by_script(recipe: Path, variables: Variables) -> str:
    """The log that submit.sh streams, to its end."""
    done = subprocess.run(
        ["bash", str(SCRIPTS[1]), str(recipe), "--until", "collect"],
        env=variables,
        cwd=ROOT / "jobs",
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
