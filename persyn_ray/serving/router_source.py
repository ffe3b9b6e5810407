"""Resolves what to serve: a run folder or router folder in, its settings and paths out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.engines import OpenAIEngineConfig
from persyn_ray.recipe.reading.complaints import dotted
from persyn_ray.recipe.reading.overrides import change, yaml_problem
from persyn_ray.recipe.recipe import parse_recipe, refuse_secrets
from persyn_ray.recipe.serving import ServingConfig, UpstreamConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.serving.middleware.api_keys import new_key
from persyn_ray.storage.folder import Folder


def settings_of(
    source: str, given: Mapping[str, Any] | None = None, overrides: tuple[str, ...] = ()
) -> tuple[str, ServingConfig]:
    """The router's address, and the endpoint's settings.

    What a run's recipe says comes first, then `given`, then `overrides` (`serving.key=value`).

    Raises:
        ConfigError: there is no router, or a setting does not fit.
    """
    folder = Folder.absolute(source)
    address, base, retired, ledger = folder.address, {}, set[str](), None
    if folder.exists("recipe.json"):
        recipe = parse_recipe(folder.read_json("recipe.json"), f"{source}/recipe.json")
        address, base = f"{folder.address}/router", _of_recipe(recipe.serving, recipe.teachers)
        ledger = recipe.ledger or f"{folder.address}/ledger"
        retired = {teacher.name for teacher in recipe.teachers if teacher.retired}
    if not Folder(address).exists("config.json"):
        raise ConfigError(
            f"{source} holds no router: name a run whose step `router` is done, or a folder with "
            "a fitted router."
        )
    data = {"serving": base | dict(given or {})}
    for override in overrides:
        if not override.startswith("serving."):
            raise ConfigError(f"Override {override!r} must read serving.key=value.")
        data = change(data, override)
    settings = parse_serving(data["serving"], source)
    ledger = settings.chat_ledger or ledger
    told = {
        "masked": tuple(sorted(retired.union(settings.masked))),
        "chat_ledger": None if ledger is None else Folder.absolute(ledger).address,
    }
    return address, settings.model_copy(update=told)


def read_settings(path: Path) -> Mapping[str, object]:
    """The `serving` settings of a YAML file, with or without the word `serving:` above them.

    Raises:
        ConfigError: there is no such file, or it is no mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"No settings at {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text: {error.reason}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {yaml_problem(error)}") from None
    if isinstance(data, dict) and set(data) == {"serving"}:
        data = data["serving"]
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of settings of `serving`.")
    return data


def with_a_key(settings: ServingConfig) -> tuple[ServingConfig, str | None]:
    """Settings that let somebody in: a fresh key, if none is known to this process."""
    if settings.keys or settings.keys_file or os.environ.get(settings.keys_env):
        return settings, None
    key, digest = new_key()
    return settings.model_copy(update={"keys": {"first": digest}}), key


def parse_serving(data: Mapping[str, Any], where: str) -> ServingConfig:
    """Validate settings; every complaint names its key.

    Raises:
        ConfigError: they do not fit, or hold a secret, which no message repeats.
    """
    refuse_secrets({"serving": data}, f"Settings of {where}: this")
    try:
        return ServingConfig.model_validate(dict(data))
    except ValidationError as error:
        lines = [
            f"  serving.{dotted(item['loc'])}: {item['msg']}"
            for item in error.errors(include_input=False)
        ]
        raise ConfigError(f"Settings of {where}:\n" + "\n".join(lines)) from None


def _of_recipe(serving: ServingConfig, teachers: Sequence[TeacherConfig]) -> dict[str, object]:
    """A recipe's section, with what its teachers say where it says nothing.

    Who may ask is said by whoever serves: a run may be somebody else's.
    """
    said = serving.model_dump(mode="json", exclude_unset=True, exclude={"keys"})
    prices = {t.name: t.price.response for t in teachers if t.price is not None}
    upstreams = {
        teacher.name: UpstreamConfig(**teacher.engine.model_dump(), price=teacher.price).model_dump(
            mode="json"
        )
        for teacher in teachers
        if isinstance(teacher.engine, OpenAIEngineConfig)
    }
    said["prices"] = prices | said.get("prices", {})
    said["upstreams"] = upstreams | said.get("upstreams", {})
    return said
