"""The overlays as kustomize builds them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("small", "large")


def tool(name: str) -> str:
    """A program that a package put beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is not installed: `make .venv/dev.stamp` does it"
    return found


@cache
def build(overlay: str) -> tuple[dict[str, Any], ...]:
    """Every object that `kubectl apply -k` would send."""
    folder = ROOT / "cluster/kustomize/overlays" / overlay
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # kustomize warns of fields on their way out
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


def pods(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template of an object, with its place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "template" and "containers" in value.get("spec", {}):
                yield f"{where}.template", value
            else:
                yield from pods(value, f"{where}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from pods(value, f"{where}[{number}]")


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    """The objects of each overlay in turn."""
    return build(request.param)


@pytest.fixture(params=OVERLAYS)
def by_kind(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """The overlay's custom resources by kind."""
    return {one["kind"]: one for one in build(request.param) if one["kind"].startswith("Ray")}


@pytest.fixture
def templates(objects: tuple[dict[str, Any], ...]) -> list[tuple[str, dict[str, Any]]]:
    """Every pod template of an overlay."""
    found = [one for item in objects for one in pods(item, item["kind"])]
    assert len(found) == 5 + 5 + 2  # head and groups of cluster, job and endpoint
    return found


@pytest.fixture
def overlays() -> dict[str, tuple[dict[str, Any], ...]]:
    """Both overlays."""
    return {name: build(name) for name in OVERLAYS}


@pytest.fixture
def run_tool() -> Any:
    """Runs a program of the environment."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool(name), *arguments], capture_output=True, text=True, check=False, cwd=ROOT
        )

    return run
