"""The locked requirements (exact, with hashes, no index address), and what the package ships."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKED = sorted(path.name for path in (ROOT / "requirements").glob("*.txt"))
ENTRY = re.compile(r"[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^\s;]+( ; .+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(name: str) -> list[list[str]]:
    """Every entry as its parts: what is required, then its hashes."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    lines = text.replace("\\\n", "\n ").splitlines()
    parts: list[list[str]] = []
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        parts[-1].append(line.strip()) if line.startswith(" ") else parts.append([line.strip()])
    return parts


def test_there_are_locked_files_for_every_installation() -> None:
    assert {"run.txt", "dev.txt", "vllm.txt", "cuda.txt", "s3.txt", "assets.txt"} <= {*LOCKED}


@pytest.mark.parametrize("name", LOCKED)
def test_every_entry_is_exact_and_has_hashes(name: str) -> None:
    for required, *hashes in entries(name):
        assert ENTRY.fullmatch(required), required
        assert hashes, required
        assert all(HASH.fullmatch(one) for one in hashes), required
    assert "://" not in (ROOT / "requirements" / name).read_text(encoding="utf-8")


def test_what_a_recipe_may_read_is_installed() -> None:
    locked = {required.split("==")[0] for required, *_ in entries("run.txt")}
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        re.split(r"[\[=<>]", one)[0].lower().replace("_", "-")
        for one in [*extra["dependencies"], *extra["optional-dependencies"]["run"]]
    }
    assert named - locked == {"torch"}  # its build differs from index to index
    assert "zstandard" in locked


def test_the_licence_and_the_type_marker_that_pyproject_claims_are_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "9. Accepting Warranty or Additional Liability." in text
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "persyn_ray/py.typed").is_file()
