"""Code that a recipe names: found without being run, told apart by its file, or refused."""

import json
import sys
from pathlib import Path

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.own_code import PythonQualityConfig, file_of, load_code, top_of
from persyn_ray.recipe.recipe import parse_recipe

SETTING = "scoring.quality.function"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is not on Python's path, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("own_"):
            del sys.modules[name]


def quality(reference: str) -> PythonQualityConfig:
    return PythonQualityConfig.model_validate({"kind": "python", "function": reference})


def test_a_module_of_the_working_folder_is_found_without_being_run(here: Path) -> None:
    (here / "own_loud.py").write_text("raise SystemExit('run')\n")
    assert file_of("own_loud:score") == here / "own_loud.py"
    assert quality("own_loud:score").source


def test_a_module_inside_a_package_is_found_without_running_the_package(here: Path) -> None:
    (here / "own_box" / "inner").mkdir(parents=True)
    (here / "own_box" / "__init__.py").write_text("raise SystemExit('run')\n")
    (here / "own_box" / "inner" / "__init__.py").write_text("")
    (here / "own_box" / "inner" / "deep.py").write_text("def score(rows): ...\n")
    assert file_of("own_box.inner.deep:score") == here / "own_box" / "inner" / "deep.py"
    assert file_of("own_box.other:score") is None
    assert top_of("own_box.inner.deep:score") == here / "own_box"


def test_workers_are_sent_a_single_file_and_nothing_that_is_installed(here: Path) -> None:
    (here / "own_file.py").write_text("def score(rows): ...\n")
    assert top_of("own_file:score") == here / "own_file.py"
    assert top_of("json:loads") is None
    assert top_of("numpy:sum") is None


def test_other_code_is_another_quality_and_settings_read_back_stay_the_same(here: Path) -> None:
    file = here / "own_changing.py"
    file.write_text("def score(rows):\n    return [0.0 for _ in rows]\n")
    first = quality("own_changing:score")
    read_back = PythonQualityConfig.model_validate(json.loads(first.model_dump_json()))
    file.write_text("def score(rows):\n    return [1.0 for _ in rows]\n")
    assert quality("own_changing:score").source != first.source
    assert read_back == first
    with pytest.raises(ConfigError, match="has changed since the recipe was read"):
        load_code("own_changing:score", first.source, SETTING)


def test_what_cannot_be_loaded_is_refused_with_what_is_there(here: Path) -> None:
    (here / "own_odd.py").write_text("number = 3\ndef good(rows): ...\n")
    (here / "own_broken.py").write_text("import absent_package_of_nobody\n")
    for reference, why in (
        ("own_absent:score", "there is no module 'own_absent'"),
        ("own_odd:score", r"has no 'score'; it defines \['good'\]"),
        ("own_odd:number", "'number', which cannot be called"),
        ("own_broken:score", "importing it failed: ModuleNotFoundError"),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            load_code(reference, None, SETTING)
        assert str(caught.value).startswith(f"{SETTING} is '{reference}'")


@pytest.mark.parametrize(
    "reference", ["score", "my_module:", "my/module.py:score", "a:b:c", "a:b c"]
)
def test_a_reference_has_one_form(reference: str, make_recipe) -> None:
    with pytest.raises(ConfigError, match=r"scoring\.quality\.python\.function"):
        make_recipe({"scoring.quality": {"kind": "python", "function": reference}})


def test_a_limit_without_a_process_to_kill_is_refused(make_recipe) -> None:
    own = {"kind": "python", "function": "own_any:score", "timeout_seconds": 3}
    with pytest.raises(ConfigError, match="timeout_seconds needs processes"):
        make_recipe({"scoring.quality": own})
    data = make_recipe({"scoring.quality": own | {"processes": 1}}).model_dump(mode="json")
    assert parse_recipe(data, "again").scoring.quality.kind == "python"
