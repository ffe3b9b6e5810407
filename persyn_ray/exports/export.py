"""Carries out an export: a form's files are written aside and then moved to their place.

The folder belongs to whoever asked: of what lies there only the files of an earlier export go,
which its marker names. While files are moved the marker says that the export is not whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from persyn_ray import __version__
from persyn_ray.errors import ConfigError
from persyn_ray.exports.form import Facts, Form, Rows, Written
from persyn_ray.exports.licences import licence_remarks
from persyn_ray.storage.atomic_files import scratch_folder, writing_to
from persyn_ray.storage.folder import Folder

MARKER = "persyn-export.json"
README = "README.md"


@dataclass(frozen=True)
class Exported:
    """An export that is done."""

    folder: Folder
    written: Written
    remarks: tuple[str, ...]
    """What licences say, and which rows were left out."""


def export(form: Form, rows: Rows, facts: Facts, target: Folder) -> Exported:
    """Write a form's files into a folder, with a README and a marker.

    Raises:
        ConfigError: the folder holds files of others under names that are needed, or no room.
    """
    earlier = _earlier_files(target)
    # On the disk of their place, so that moving is renaming.
    beside = target.local_path if target.is_local else None
    with writing_to(target.address), scratch_folder(beside) as scratch:
        written = form.write(rows, scratch, facts)
        remarks = (*_left_out(written), *licence_remarks(facts.teachers))
        mine = tuple(dict.fromkeys((*written.files, README)))
        _require_free(target, mine, earlier)
        target.write_json(MARKER, {"whole": False, "files": [*earlier, *mine]})
        for name in earlier:
            target.remove(name)
        for name in written.files:
            target.move_in(scratch / name, name)
        if README not in written.files:
            target.write_text(README, _readme(form, facts, written, remarks))
        target.write_json(MARKER, _marker(form, facts, written))
    return Exported(target, written, remarks)


def _earlier_files(target: Folder) -> tuple[str, ...]:
    if not target.exists(MARKER):
        return ()
    marker = target.read_json(MARKER)
    files = marker.get("files", []) if isinstance(marker, dict) else []
    return tuple(name for name in files if _is_inside(name) and target.exists(name))


def _is_inside(name: str) -> bool:
    """Whether a name leads to something below a folder: never to the folder itself or out of it."""
    return {"", ".", ".."}.isdisjoint(name.split("/"))


def _require_free(target: Folder, names: Sequence[str], earlier: Sequence[str]) -> None:
    wanted = [place for name in names for place in _places(target, name)]
    taken = [name for name in dict.fromkeys(wanted) if name not in earlier and target.exists(name)]
    if taken:
        raise ConfigError(
            f"{target.address} holds {', '.join(taken[:3])}, which no export has written. Give "
            "another folder with -o, or move them."
        )


def _places(target: Folder, name: str) -> list[str]:
    """What must not be there for a file to be written: itself, or a file where its folder goes."""
    if not target.is_local:
        return [name]
    above = [str(place) for place in PurePosixPath(name).parents[:-1]]
    return [name, *(place for place in above if (target.local_path / place).is_file())]


def _left_out(written: Written) -> list[str]:
    return [f"{num:,} rows left out: {why}." for why, num in written.left_out.items() if num]


def _marker(form: Form, facts: Facts, written: Written) -> dict[str, object]:
    return {
        "whole": True,
        "form": form.name,
        "fingerprint": facts.fingerprint,
        "persyn_ray": __version__,
        "rows": written.num_rows,
        "left_out": dict(written.left_out),
        "files": list(dict.fromkeys((*written.files, README))),
    }


def _readme(form: Form, facts: Facts, written: Written, remarks: Sequence[str]) -> str:
    lines = [
        f"{written.num_rows:,} rows for {form.tool}, of the run {facts.name!r} "
        f"(fingerprint {facts.fingerprint}).",
        "",
        written.how,
        "",
        *(f"- {remark}" for remark in remarks),
    ]
    return "\n".join(lines).rstrip() + "\n"
