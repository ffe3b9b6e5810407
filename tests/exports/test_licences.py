"""What licences say against training on responses, as `persyn export` tells it."""

from pathlib import Path

import pytest

from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.exports.licences import licence_remarks
from persyn_ray.recipe.engines import ScriptedEngineConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.folder import Folder

from .rows import TableRows


def teacher(licence: str | None) -> TeacherConfig:
    engine = ScriptedEngineConfig(kind="scripted")
    return TeacherConfig(name="a", engine=engine, licence=licence)


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("llama3", "that are no Llama"),
        ("Llama-3", "that are no Llama"),
        ("llama2", "forbids to improve"),
        ("llama3.1", "name and its use policy"),
        ("Llama 3.3", "name and its use policy"),
        ("gemma", "use policy"),
        ("cc-by-nc-4.0", "commercial"),
        ("CC_BY_NC_SA_4.0", "commercial"),
        ("openai", "compete"),
        (None, "unknown"),
        ("unknown", "unknown"),
    ],
)
def test_a_licence_that_says_something_is_told(licence: str | None, says: str) -> None:
    (remark,) = licence_remarks([teacher(licence)])
    assert says in remark
    assert remark.startswith("Teacher a: ")


@pytest.mark.parametrize("licence", ["apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "my own"])
def test_other_licences_pass(licence: str) -> None:
    assert licence_remarks([teacher(licence)]) == []


def test_an_export_carries_the_remarks(
    hostile_rows: TableRows, facts: Facts, tmp_path: Path
) -> None:
    changed = Facts(**{**vars(facts), "teachers": (teacher("llama3"), teacher("mit"))})
    done = export(form_named("trl"), hostile_rows, changed, Folder(str(tmp_path / "out")))
    (remark,) = done.remarks
    assert "that are no Llama" in remark
    assert remark in (tmp_path / "out" / "README.md").read_text()
