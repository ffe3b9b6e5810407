"""Records: what a step was made with, told apart field by field."""

from pathlib import Path

import pytest

from persyn_ray.errors import DataError
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.records import (
    Record,
    canonical,
    differences,
    fingerprint,
    identity,
    read_record,
    write_record,
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    record = Record("score", "f", {"a": {"b": 1}}, {"collect": "c"}, {"rows": 3}, 1.5, "t", {})
    write_record(folder, record)
    assert read_record(folder, "score") == record
    assert read_record(folder, "collect") is None


@pytest.mark.parametrize("text", ['{"step": "score", "finge', "[]", '{"colour": 3}', ""])
def test_a_damaged_record_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "score.json").write_text(text)
    with pytest.raises(DataError, match=r"score\.json"):
        read_record(Folder(str(tmp_path)), "score")


def test_identity_ignores_the_order_of_keys_but_not_of_lists() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


def test_identity_follows_settings_and_inputs() -> None:
    same = identity({"a": 1}, {"x": "1"})
    assert same == identity({"a": 1}, {"x": "1"})
    assert same != identity({"a": 2}, {"x": "1"})
    assert same != identity({"a": 1}, {"x": "2"})


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_values_without_a_stable_form_have_no_identity(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical({"a": value})


def test_differences_name_dotted_keys_with_both_values() -> None:
    old = {"scoring": {"alpha": 0.4, "scaling": "minmax"}, "teachers": {"a": {"x": 1}}}
    new = {"scoring": {"alpha": 0.6, "scaling": "minmax"}, "teachers": {"b": {"x": 1}}}
    assert differences(old, new) == {
        "scoring.alpha": (0.4, 0.6),
        "teachers.a": ({"x": 1}, None),
        "teachers.b": (None, {"x": 1}),
    }
    assert differences(old, old) == {}


@pytest.mark.parametrize("content", ["[]", '{"other": 1}', '{"step": ', "", "\xff"])
def test_what_is_no_record_is_told_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "score.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"score\.json is no record of a step: ") as raised:
        read_record(Folder(str(tmp_path)), "score")
    assert str(raised.value).endswith("Remove it to do the step again.")
    assert ".." not in str(raised.value)
    assert "Record()" not in str(raised.value)
