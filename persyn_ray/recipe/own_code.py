"""Code that a recipe names by reference: `module:name` in; its file, its fingerprint or itself out.

A module is looked for where Python looks (`sys.path`) and then in the working folder, without
running anything of it. Its fingerprint is part of what makes a result, so that changed code is
carried out anew; other modules that it imports are not in it.
"""

import hashlib
import importlib
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.base import Section

Reference = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
"""`my_module:name`, or `my_package.my_module:name`."""
ELSEWHERE = frozenset({"site-packages", "dist-packages", "working_dir_files", "py_modules_files"})
"""Folders of code that is installed, or that Ray has brought to a node and brings to others."""


class PythonQualityConfig(Section):
    """A function of one's own: rows in; for each a number (more is better), or None, out.

    It is called as `function(rows, **settings)` with a list of dicts, each with `prompt_id`,
    `teacher`, `messages`, `response` (without its thinking), `reference` and `task`. It runs in the
    actors of `resources.quality`. What it does not know, and where it fails, is a counted null.
    """

    kind: Literal["python"]
    function: Reference
    """`my_module:score`; the module is looked for on Python's path and in the working folder, and
    is brought to workers on other machines."""
    settings: dict[str, Any] = Field(default={})
    """Passed to the function by name."""
    rows_per_call: int = Field(32, ge=1)
    """Most rows of one call; where a call fails, its rows are tried one by one."""
    processes: int = Field(0, ge=0)
    """Processes beside one another in each actor that call the function, and that may be killed; 0
    calls it in the actor itself."""
    timeout_seconds: float | None = Field(None, gt=0)
    """Wall-clock limit of one call, past which its process is killed; needs `processes`."""
    source: str | None = None
    """Fingerprint of the module's file, found when the recipe is read and never written by hand:
    changed code is another quality, and scores anew."""

    @model_validator(mode="before")
    @classmethod
    def _of_source(cls, data: Any) -> Any:
        return _with_source(data, "function")

    @model_validator(mode="after")
    def _can_be_killed(self) -> "PythonQualityConfig":
        if self.timeout_seconds is not None and not self.processes:
            raise ValueError(
                "timeout_seconds needs processes, at least 1: a call in the actor itself cannot be "
                "ended"
            )
        return self


class PythonEngineConfig(Section):
    """An engine of one's own: `factory(teacher, **settings)` returns what answers.

    The object has the methods of `persyn_ray.Engine`; the teacher's section is given to the
    factory, which follows its sampling and system prompt itself. Weights are best loaded by the
    first `generate`.
    """

    kind: Literal["python"]
    factory: Reference
    """`my_module:build`; the module is looked for on Python's path and in the working folder, and
    is brought to workers on other machines."""
    settings: dict[str, Any] = Field(default={})
    """Passed to the factory by name."""
    source: str | None = None
    """Fingerprint of the module's file, found when the recipe is read and never written by hand:
    changed code is another teacher, whose responses are written anew."""

    @model_validator(mode="before")
    @classmethod
    def _of_source(cls, data: Any) -> Any:
        return _with_source(data, "factory")


def file_of(reference: str) -> Path | None:
    """The file of a reference's module; None where there is none."""
    found: Path | None = None
    places: Sequence[str] = _places()
    name = ""
    for part in reference.partition(":")[0].split("."):
        name = f"{name}.{part}".removeprefix(".")
        spec = PathFinder.find_spec(name, list(places))
        if spec is None:
            return None
        found = Path(spec.origin) if spec.has_location and spec.origin else None
        places = list(spec.submodule_search_locations or ())
    return found


def source_of(reference: str) -> str | None:
    """16 hex digits of the SHA-256 of the module's file; None where there is none."""
    file = file_of(reference)
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def load_code(reference: str, source: str | None, setting: str) -> Callable[..., Any]:
    """The function that a reference names.

    Args:
        source: the fingerprint that its module must have.
        setting: for errors.

    Raises:
        ConfigError: there is no such module or function, it cannot be imported or called, or the
            module has changed since the recipe was read.
    """
    name, _, function = reference.partition(":")
    file = file_of(reference)
    if file is None:
        raise ConfigError(
            f"{setting} is {reference!r}: there is no module {name!r} in the working folder "
            f"({os.getcwd()}) or on Python's path. Start where it lies, or set PYTHONPATH."
        )
    if source is not None and source != source_of(reference):
        raise ConfigError(
            f"{setting} is {reference!r}: {file} has changed since the recipe was read. Start the "
            "same command again."
        )
    module = _imported(name, f"{setting} is {reference!r}")
    found = getattr(module, function, None)
    if not callable(found):
        there = sorted(key for key, value in vars(module).items() if _is_own(value, name))
        raise ConfigError(
            f"{setting} is {reference!r}: {file} has "
            + (f"no {function!r}" if found is None else f"{function!r}, which cannot be called")
            + f"; it defines {there}."
        )
    return found


def top_of(reference: str) -> Path | None:
    """What workers on other machines lack: the folder of the module's package, or its own file.

    None for what is installed, or was brought by Ray, and so is on every machine.
    """
    file = file_of(reference.partition(":")[0].split(".")[0])
    if file is None:
        return None
    is_python_s = file.is_relative_to(sysconfig.get_paths()["stdlib"])
    if is_python_s or not ELSEWHERE.isdisjoint(file.parts):
        return None
    return file.parent if file.name == "__init__.py" else file


def told(reference: str, settings: Mapping[str, Any], source: str | None) -> str:
    """A reference as plans show it: its file, what it is given, and its fingerprint."""
    given = "".join(f", {name}={value!r}" for name, value in settings.items())
    return f"{reference}{given} ({file_of(reference)}, source {source})"


def _with_source(data: Any, key: str) -> Any:
    """Settings with the fingerprint of the code that `key` names, unless it is given."""
    if isinstance(data, dict) and data.get("source") is None and isinstance(data.get(key), str):
        return {**data, "source": source_of(data[key])}
    return data


def _places() -> list[str]:
    here = os.getcwd()
    return [place or here for place in sys.path] + [here]


def _imported(name: str, what: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever a module may do when it is imported
        raise ConfigError(
            f"{what}: importing it failed: {type(error).__name__}: {error}"
        ) from error


def _is_own(value: Any, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module
