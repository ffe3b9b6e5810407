"""Code of a user's own for tests: its text in, a module that can be imported out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def own_module(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with some code, in a folder that is the working one meanwhile."""
    name = f"own_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)
