"""The record a step leaves behind: what it was made with, written last, as proof that it is
finished.

Identity is what the recipe says about the step plus the fingerprints of the steps it reads from.
Resources, paths of execution and the time never enter it. On start: an equal record means the step
is done; a different one is drift and is refused with the differing fields; none means that whatever
lies there is unfinished.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from persyn_ray.errors import DataError
from persyn_ray.storage.folder import Folder

Settings = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One finished step."""

    step: str
    fingerprint: str
    settings: Settings
    inputs: dict[str, str]
    """Fingerprint of every step that this one read from."""
    result: Mapping[str, object] = field(default_factory=dict[str, object])
    """What the step found, as JSON; `storage/results.py` has its type."""
    seconds: float = 0.0
    finished: str = ""
    """UTC time, ISO 8601."""
    versions: dict[str, str] = field(default_factory=dict[str, str])


def canonical(value: Any) -> str:
    """JSON with one form per value; raises TypeError for what has no stable form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """16 hex digits that stand for a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def identity(settings: Settings, inputs: dict[str, str]) -> str:
    """Fingerprint of a step from its settings and its inputs' fingerprints."""
    return fingerprint({"settings": settings, "inputs": inputs})


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys under which two settings differ, with both values (None: absent)."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast(Settings, old), cast(Settings, new)
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(before.keys() | after.keys()):
            below = f"{prefix}.{key}" if prefix else key
            found |= differences(before.get(key), after.get(key), below)
        return found
    return {} if canonical(old) == canonical(new) else {prefix: (old, new)}


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(folder: Folder, step: str) -> Record | None:
    """The record of a finished step, or None.

    Raises:
        DataError: the file is no record.
    """
    name = f"{step}.json"
    if not folder.exists(name):
        return None
    try:
        return Record(**folder.read_json(name))
    except (ValueError, TypeError) as error:
        why = str(error).rstrip(".") if isinstance(error, ValueError) else "its fields are others"
        raise DataError(
            f"{folder.path(name)} is no record of a step: {why}. Remove it to do the step again."
        ) from error


def write_record(folder: Folder, record: Record) -> None:
    """Leave the proof of completion; call it after everything else is written."""
    folder.write_json(f"{record.step}.json", asdict(record))
