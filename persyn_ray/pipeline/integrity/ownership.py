"""Ownership of folders: a run writes into a new, empty or own folder, and removes only
what it has made.

A run's folder is marked before anything else is written there. A step's folders are the run's own
once the step has begun: its mark (records/STEP.begun) or its record says so. What a recipe reads
must not lie where a step removes.
"""

import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.steps import STEPS, Step
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import utc_now

MARKER = "persyn-run.json"
OF_NOBODY = {"lost+found", ".gitkeep", ".DS_Store"}
"""What stands in a folder that its owner calls empty."""
PATHS = {"path", "extend", "store", "ledger", "api_key_file", "keys_file"}
"""Settings that name a file or a folder, whatever their value looks like."""
SCHEMES = {"s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}
NOT_FILES = ("package:", "hub:", "random:")
MAGIC = "*?["
LONGEST = 4096
"""Characters of a string that may be an address."""


def require_own(run: RunLayout, inputs: Sequence[tuple[str, str]]) -> None:
    """Refuse a folder of somebody else, and inputs that a step of this run would remove.

    Args:
        inputs: settings with the addresses they name, see `inputs_of`.

    Raises:
        ConfigError: the folder holds something and no run, lies where another run removes, or an
            input lies where this one does.
    """
    _require_run(run)
    _require_no_run_around("run", run.root)
    _require_inputs_outside(run, inputs)
    if run.store is not None:
        _require_no_run_around("responses.store", run.store)
    if run.shared_ledger is not None:
        _require_no_run_around("ledger", run.shared_ledger)


def require_made(run: RunLayout, steps: Sequence[Step]) -> None:
    """Refuse to begin steps whose folders hold something that no step of this run has made.

    Raises:
        ConfigError: there is such a folder, or a link that leads out of the run.
    """
    own = {folder.address for step in STEPS if _has_begun(run, step) for folder in step.leaves(run)}
    for step in steps:
        for folder in step.leaves(run):
            run.require_inside(folder)
            if folder.address not in own and folder.names():
                raise ConfigError(
                    f"{folder.address.rstrip('/')} is not of this run: it was there before step "
                    f"{step.name}, which would remove it. Move it, or set `run` to another folder."
                )


def claim(run: RunLayout) -> None:
    """Mark a folder as a run's before anything else is written there."""
    if not run.root.exists(MARKER):
        run.root.write_json(MARKER, {"made_by": "persyn-ray", "made": utc_now()})


def has_run(run: RunLayout) -> bool:
    """Whether the folder is marked as a run's, or holds what a step leaves at its end."""
    if run.root.exists(MARKER):
        return True
    return any(run.records.exists(f"{step.name}.json") for step in STEPS) and run.root.exists(
        "recipe.json"
    )


def _has_begun(run: RunLayout, step: Step) -> bool:
    return any(run.records.exists(f"{step.name}.{ending}") for ending in ("begun", "json"))


def _require_run(run: RunLayout) -> None:
    found = [name for name in run.root.names() if name not in OF_NOBODY]
    if found and not has_run(run):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ConfigError(
            f"{run.root.address} is not empty and holds no run: {', '.join(found[:3])}{more}. Set "
            f"`run` to a new or empty folder, such as {run.root.address.rstrip('/')}/run."
        )


def _require_no_run_around(setting: str, folder: Folder) -> None:
    """What lies within what another run removes goes with it."""
    inner = _resolved(folder.address)
    if inner is None or "://" in inner:
        return
    parent = posixpath.dirname(inner)
    while parent != posixpath.dirname(parent):
        outer = RunLayout(Folder(parent))
        if outer.root.exists(MARKER) and (place := _place_of(inner, outer)):
            raise ConfigError(
                f"`{setting}` is {folder.address}, in {place}, which the run in {parent} removes "
                f"when it does a step anew. Set `{setting}` to a folder outside."
            )
        parent = posixpath.dirname(parent)


def _require_inputs_outside(run: RunLayout, inputs: Sequence[tuple[str, str]]) -> None:
    complaints = [
        f"{setting} is {address}, in {place}, which the run removes when it does a step anew"
        for setting, address in inputs
        for one in _matches(address, run)
        if (place := _place_of(one, run))
    ]
    if complaints:
        raise ConfigError(
            "The recipe reads from what its own run writes:\n  "
            + "\n  ".join(dict.fromkeys(complaints))
            + "\nCopy it to a place outside, or set `run` to another folder."
        )


def inputs_of(recipe: Recipe) -> list[tuple[str, str]]:
    """Every value of the recipe that may be an address, after its dotted key."""
    sections = recipe.model_dump(mode="json", exclude={"run", "name", "hardware", "resources"})
    return [(key, value) for key, value in _strings(sections, "") if _may_be_address(key, value)]


def _may_be_address(key: str, value: str) -> bool:
    looks_like_one = "/" in value or key.split(".")[-1] in PATHS or ".path." in key
    is_one = looks_like_one and len(value) < LONGEST and "\n" not in value
    return is_one and not value.startswith(NOT_FILES)


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, below in items:
            yield from _strings(below, f"{key}.{name}" if key else str(name))


def _matches(address: str, run: RunLayout) -> list[str]:
    """An address, and the files of a pattern that may reach into the run, each in one form."""
    start = min((address.find(mark) for mark in MAGIC if mark in address), default=None)
    plain = _resolved(address)
    if start is None or plain is None:
        return [] if plain is None else [plain]
    fixed, root = _resolved(address[:start].rpartition("/")[0] or "."), _resolved(run.root.address)
    if fixed is None or root is None or not (_is_in(root, fixed) or _is_in(fixed, root)):
        return [plain]
    fs, path = fsspec.core.url_to_fs(address)
    names = [fs.unstrip_protocol(str(name)) for name in fs.glob(path)]
    return [plain, *(one for name in names if (one := _resolved(name)) is not None)]


def _place_of(address: str, run: RunLayout) -> str | None:
    """The folder that a step removes, or that holds the run's records, in which an address lies."""
    folders = [run.records, run.attempts, *(f for step in STEPS for f in step.leaves(run))]
    for folder in folders:
        place = _resolved(folder.address)
        if place is not None and _is_in(address, place):
            return folder.address.rstrip("/")
    return None


def _is_in(address: str, folder: str) -> bool:
    return address == folder or address.startswith(folder.rstrip("/") + "/")


def _resolved(address: str) -> str | None:
    """One form for every way to write a place: links followed, no `..`; None if it is none."""
    address = address.rpartition("::")[2]  # `simplecache::s3://…` reads from what stands last
    scheme, separator, rest = address.partition("://")
    if not separator or scheme in ("file", "local"):
        path = os.path.expanduser(rest if separator else address)
        return None if "\0" in path else os.path.realpath(path)
    return f"{SCHEMES.get(scheme, scheme)}://{posixpath.normpath(rest.strip('/'))}"
