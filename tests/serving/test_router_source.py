"""What the endpoint serves, and where its settings come from."""

import json
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import parse_recipe
from persyn_ray.serving.route_requests import new_state
from persyn_ray.serving.router_model import RouterModel
from persyn_ray.serving.router_source import (
    parse_serving,
    read_settings,
    settings_of,
    with_a_key,
)

from .asking import TEACHERS

OPENAI = {"kind": "openai", "model": "m", "base_url": "http://cleo:8000/v1", "api_key_env": "K"}


@pytest.fixture
def run(router_folder: Path, tmp_path: Path, make_recipe: Any) -> Path:
    """A run with a router; bert is retired and cleo stands behind an endpoint."""
    data = make_recipe().model_dump(mode="json")
    data["teachers"] = [
        {"name": "ada", "engine": {"kind": "scripted"}, "price": {"response": 2.0}},
        {"name": "bert", "engine": {"kind": "scripted"}, "retired": True},
        {"name": "cleo", "engine": OPENAI, "price": {"response": 5.0}},
    ]
    data["serving"] = {"masked": ["ada"], "prices": {"cleo": 4.0}, "burst": 7}
    recipe = parse_recipe(data, "the test")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    (folder / "router").symlink_to(router_folder)
    return folder


def test_a_run_knows_its_teachers(run: Path):
    address, settings = settings_of(str(run))
    assert address == f"{run}/router"
    assert settings.burst == 7
    assert settings.masked == ("ada", "bert")
    assert settings.prices == {"ada": 2.0, "cleo": 4.0}
    assert settings.upstreams["cleo"].base_url == "http://cleo:8000/v1"
    assert settings.upstreams["cleo"].api_key_env == "K"


def test_the_retired_stay_masked_whatever_else_is(run: Path):
    _, settings = settings_of(str(run), {"masked": []}, ("serving.masked=[cleo]",))
    assert settings.masked == ("bert", "cleo")


def test_the_command_line_comes_before_the_file_and_the_file_before_the_recipe(run: Path):
    given = {"burst": 8, "max_prompts": 9}
    _, settings = settings_of(str(run), given, ("serving.max_prompts=10",))
    assert (settings.burst, settings.max_prompts) == (8, 10)


def test_a_router_alone_serves_with_defaults(router_folder: Path):
    address, settings = settings_of(str(router_folder))
    assert (address, settings.upstreams) == (str(router_folder), {})


def test_what_holds_no_router_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="holds no router"):
        settings_of(str(tmp_path))
    with pytest.raises(ConfigError, match="holds no router"):
        RouterModel(str(tmp_path))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("serving.max_promts=3", "serving.max_promts"),
        ("serving.max_prompts=0", "serving.max_prompts"),
        ("max_prompts=3", "serving.key=value"),
        ("serving.min_replicas=3", "max_replicas 1 is less than min_replicas 3"),
    ],
)
def test_a_wrong_setting_is_named(router_folder: Path, override: str, words: str):
    with pytest.raises(ConfigError, match=words):
        settings_of(str(router_folder), {}, (override,))


@pytest.mark.parametrize("field", ["masked", "prices", "prior", "upstreams"])
def test_settings_of_unknown_teachers_are_refused(model: RouterModel, field: str):
    value = {"masked": ["dora"], "upstreams": {"dora": OPENAI}}.get(field, {"dora": 1.0})
    with pytest.raises(ConfigError, match=f"serving.{field} names 'dora'"):
        new_state(model, parse_serving({field: value}, "the test"))


def test_masking_all_is_refused(model: RouterModel):
    with pytest.raises(ConfigError, match="leaves no teacher"):
        new_state(model, parse_serving({"masked": list(TEACHERS)}, "the test"))


def test_settings_files_with_and_without_their_heading(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    for text in ("burst: 3", "serving:\n  burst: 3"):
        path.write_text(text)
        assert read_settings(path) == {"burst": 3}
    path.write_text("- burst")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        read_settings(path)
    with pytest.raises(ConfigError, match="No settings at"):
        read_settings(tmp_path / "other.yaml")


def test_a_key_is_made_only_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PERSYN_API_KEYS", raising=False)
    opened, key = with_a_key(parse_serving({}, "the test"))
    assert key is not None
    assert key not in str(opened)
    assert with_a_key(opened) == (opened, None)
    monkeypatch.setenv("PERSYN_API_KEYS", "me:" + "0" * 64)
    assert with_a_key(parse_serving({}, "the test"))[1] is None
