"""A wheel, built and installed into an environment that does not know the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import persyn_ray

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).parent / "uv"
pytestmark = pytest.mark.skipif(not UV.exists(), reason="no uv beside this Python")


def ended(*command: str | Path, cwd: Path) -> str:
    """The output of a command that does not see the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    how = ("--wheel", "--no-build-isolation", "--offline", "--python", sys.executable)
    ended(UV, "build", *how, "-o", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel; other packages stand behind it on the path."""
    home = tmp_path_factory.mktemp("clean") / "env"
    ended(UV, "venv", "--offline", "--python", sys.executable, home, cwd=wheel.parent)
    install = ("pip", "install", "--offline", "--no-deps", "--python", home / "bin" / "python")
    ended(UV, *install, wheel, cwd=wheel.parent)
    (packages,) = home.glob("lib/*/site-packages")
    # Such a path's own .pth files are not read: the checkout that tests run in stays unknown.
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_everything_under_version_control_is_inside(wheel: Path) -> None:
    command = ["git", "ls-files", "persyn_ray"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    expected = {name for name in tracked.stdout.split("\n") if name and (ROOT / name).exists()}
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert expected - inside == set()
    kinds = {Path(name).suffix for name in inside}
    assert {".html", ".css", ".md", ".yaml", ".jsonl", ".safetensors", ".jinja", ".typed"} <= {
        *kinds,
        *(f".{Path(name).name.partition('.')[2]}" for name in inside),
    }


def test_its_metadata_name_the_command_and_what_runs_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"persyn_ray-{persyn_ray.__version__}.dist-info"
    metadata = archive.read(f"{info}/METADATA").decode()
    assert "Provides-Extra: run" in metadata
    assert "persyn = persyn_ray.cli.main:entry" in archive.read(f"{info}/entry_points.txt").decode()


def test_the_command_starts_writes_a_recipe_and_plans_the_lab(
    installed: Path, tmp_path: Path
) -> None:
    where = "import persyn_ray; print(persyn_ray.__file__)"
    assert ended(installed / "python", "-c", where, cwd=tmp_path).startswith(str(installed.parent))
    persyn = installed / "persyn"
    assert persyn_ray.__version__ in ended(persyn, "--version", cwd=tmp_path)
    assert "plan" in ended(persyn, "--help", cwd=tmp_path)
    ended(persyn, "init", "mine.yaml", cwd=tmp_path)
    assert "teachers:" in (tmp_path / "mine.yaml").read_text()
    plan = ended(persyn, "plan", ROOT / "jobs" / "quickstart.yaml", cwd=tmp_path)
    assert "400 parallel" in plan


def test_the_library_scores_with_a_model_of_the_lab(installed: Path, tmp_path: Path) -> None:
    code = """
import json, persyn_ray as persyn
student = persyn.Likelihood("package:persyn_ray/lab/assets/string-specialist")
found = student.score(["flip gzc", "flip gzc"], ["rev#czg", "rev#gzc"])
print(json.dumps(found.mean_log_likelihood.tolist()))
"""
    right, wrong = json.loads(ended(installed / "python", "-c", code, cwd=tmp_path))
    assert 0 > right > wrong
