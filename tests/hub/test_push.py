"""`persyn push` with the Hub's own client, against a server on loopback that speaks as it does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.models.router.model import load_router
from persyn_ray.pipeline.results.report import write_report
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

from .hub_server import READ_TOKEN, TOKEN, HubServer

# How the client itself calls its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
Push = Callable[..., Result]


@pytest.fixture(scope="module")
def pushed_run(
    finished: tuple[Recipe, RunLayout], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run with its report, whose data set has six files."""
    recipe, run = finished
    folder = tmp_path_factory.mktemp("pushed") / "run"
    shutil.copytree(run.root.local_path, folder)
    copied = RunLayout(Folder.absolute(str(folder)), identities=run.identities)
    (table,) = [table for _, table in (copied.dataset / "data").tables()]
    for number in range(1, 6):
        path = folder / "dataset" / "data" / f"train-{number:05d}.parquet"
        column = pa.array([f"{number}-{row}" for row in range(table.num_rows)])
        place = table.schema.get_field_index("prompt_id")
        pq.write_table(table.set_column(place, "prompt_id", column), path)
    write_report(recipe, copied, Console(quiet=True))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    import huggingface_hub.constants

    with HubServer() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def push(pushed_run: Path) -> Push:
    def carry_out(*options: str) -> Result:
        return CliRunner().invoke(app, ["push", str(pushed_run), *options])

    return carry_out


def told(result: Result) -> str:
    return f"{result.output}{result.exception}"


def front_matter(card: bytes) -> dict[str, Any]:
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_a_data_set_arrives_whole_with_a_card_that_the_hub_takes(
    hub: HubServer, push: Push, pushed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = push("hub:my-org/routed", "--private")
    assert result.exit_code == 0, told(result)
    assert f"{hub.url}/datasets/my-org/routed" in result.output.replace("\n", "")
    assert hub.repositories["datasets", "my-org/routed"].private
    content = hub.content("datasets", "my-org/routed")
    for path in (pushed_run / "dataset" / "data").iterdir():
        assert content[f"data/{path.name}"] == path.read_bytes()
    front = front_matter(content["README.md"])
    assert front["task_categories"] == ["text-generation"]
    assert front["license"] == "unknown"
    assert front["size_categories"] == ["n<1K"]
    for name, data in content.items():
        (tmp_path / "down" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "down" / name).write_bytes(data)
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(
        str(tmp_path / "down"), split="train", cache_dir=str(tmp_path / "cache")
    )
    rows = sum(pq.read_metadata(p).num_rows for p in (pushed_run / "dataset/data").iterdir())
    assert len(loaded) == rows


def test_a_second_push_sends_what_has_changed_and_removes_what_is_gone(
    hub: HubServer, push: Push, pushed_run: Path, tmp_path: Path
) -> None:
    assert push("hub:my-org/routed").exit_code == 0
    repository = hub.repositories["datasets", "my-org/routed"]
    repository.files |= {"data/train-00009.parquet": "0" * 64, "notes/mine.txt": b"mine"}
    hub.puts.clear()
    commits = len(repository.commits)
    result = push("hub:my-org/routed")
    assert result.exit_code == 0, told(result)
    assert hub.puts == []
    assert "data/train-00009.parquet" not in repository.files
    assert repository.files["notes/mine.txt"] == b"mine"
    assert len(repository.commits) == commits + 1
    assert push("hub:my-org/routed").exit_code == 0
    assert len(repository.commits) == commits + 1  # nothing left to say


def test_a_router_and_a_student_are_models_that_load(
    hub: HubServer, push: Push, pushed_run: Path, tmp_path: Path
) -> None:
    options = ("--what", "router", "--licence", "Apache 2.0")
    assert push("hub:my-org/router", *options).exit_code == 0
    content = hub.content("models", "my-org/router")
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    router, _ = load_router(tmp_path)
    original, _ = load_router(pushed_run / "router")
    assert router.config.teachers == original.config.teachers
    front = front_matter(content["README.md"])
    assert front["pipeline_tag"] == "text-classification"
    assert front["license"] == "apache-2.0"
    assert "base_model" not in front  # it lies in a folder of this machine
    assert "hf download my-org/router" in content["README.md"].decode()

    result = push("hub:my-org/student", "--what", "student", "--licence", "Our Own v2")
    assert result.exit_code == 0, told(result)
    content = hub.content("models", "my-org/student")
    front = front_matter(content["README.md"])
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "text-generation")
    assert (front["license"], front["license_name"]) == ("other", "our-own-v2")
    assert content["config.json"] == (pushed_run / "students/persyn/config.json").read_bytes()


def test_a_dry_run_lists_every_file_and_asks_nothing(
    hub: HubServer, push: Push, pushed_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    result = push("hub:my-org/routed", "--dry-run")
    assert result.exit_code == 0, told(result)
    for path in (pushed_run / "dataset" / "data").iterdir():
        (line,) = [line for line in result.output.splitlines() if path.name in line]
        assert f"{path.stat().st_size:,}" in line
    assert "README.md" in result.output
    assert "Teacher a: its licence is unknown" in " ".join(result.output.split())
    assert "Nothing was sent" in result.output
    assert hub.requests == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("my-org/routed", "hub:ORG/NAME"),
        ("hub:routed", "hub:ORG/NAME"),
        ("hub:/routed", "ORG and NAME"),
        ("hub:my-org/a--b", "--"),
        ("hub:my-org/a b", "alphanumeric"),
        ("hub:my-org/x.git", ".git"),
        ("hub:my-org/" + "x" * 97, "96"),
    ],
)
def test_names_that_the_hub_refuses_are_refused_before_anything_is_sent(
    hub: HubServer, push: Push, target: str, reason: str
) -> None:
    result = push(target)
    assert type(result.exception).__name__ == "ConfigError"
    assert reason in str(result.exception)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "target", "reason"),
    [
        (None, "hub:my-org/routed", "No token for the Hub: set HF_TOKEN"),
        ("hf_wrong", "hub:my-org/routed", "does not know the token (401"),
        (READ_TOKEN, "hub:my-org/routed", "may not write to my-org/routed (403"),
        (TOKEN, "hub:others/routed", "may not write to others/routed (403"),
        (TOKEN, "hub:my-org/reserved", "refuses my-org/reserved (400): This name is reserved"),
    ],
)
def test_what_the_hub_says_is_one_message_and_no_file_is_sent(
    hub: HubServer,
    push: Push,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    target: str,
    reason: str,
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    result = push(target)
    assert reason in str(result.exception)
    assert type(result.exception).__name__ == "ConfigError"
    assert token is None or token not in told(result)
    assert hub.puts == []


def test_private_data_does_not_go_to_a_public_repository(hub: HubServer, push: Push) -> None:
    assert push("hub:my-org/routed").exit_code == 0
    hub.puts.clear()
    hub.repositories["datasets", "my-org/routed"].files.clear()
    hub.large.clear()
    result = push("hub:my-org/routed", "--private")
    assert "is there and public" in str(result.exception)
    assert hub.puts == []


def test_a_hub_that_is_away_is_told(hub: HubServer, push: Push) -> None:
    hub.__exit__()
    result = push("hub:my-org/routed")
    assert type(result.exception).__name__ == "StepError"
    assert "The same command goes on." in str(result.exception)


def test_a_run_that_is_not_so_far_says_which_step_is_missing(
    hub: HubServer, pushed_run: Path, tmp_path: Path
) -> None:
    def refused(folder: Path, *options: str) -> str:
        command = ["push", str(folder), "hub:my-org/x", *options]
        return str(CliRunner().invoke(app, command).exception)

    assert "holds no run" in refused(tmp_path)
    shutil.copy(pushed_run / "recipe.json", tmp_path)
    assert "step synthesize is not done" in refused(tmp_path)
    assert "step router is not done" in refused(tmp_path, "--what", "router")
    assert "step finetune is not done" in refused(tmp_path, "--what", "student")
    shutil.copytree(pushed_run / "router", tmp_path / "router")
    assert "persyn report" in refused(tmp_path, "--what", "router")
    assert hub.requests == []


def test_after_a_kill_the_same_command_sends_what_is_missing(
    hub: HubServer, push: Push, pushed_run: Path, tmp_path: Path
) -> None:
    hub.hold_after = 2
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "persyn_ray.cli", "push", str(pushed_run), "hub:my-org/routed"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert hub.held.wait(600), process.communicate(timeout=5)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    hub.release.set()
    arrived = set(hub.large)
    assert len(arrived) == 2
    repository = hub.repositories["datasets", "my-org/routed"]
    assert repository.commits == []
    hub.hold_after = None
    hub.puts.clear()
    result = push("hub:my-org/routed")
    assert result.exit_code == 0, told(result)
    assert arrived.isdisjoint(hub.puts)
    content = hub.content("datasets", "my-org/routed")
    for path in (pushed_run / "dataset" / "data").iterdir():
        assert content[f"data/{path.name}"] == path.read_bytes()
    assert json.dumps(sorted(hub.puts)) == json.dumps(sorted(set(hub.puts)))
