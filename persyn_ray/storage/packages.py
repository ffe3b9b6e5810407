"""Finds what lies inside an installed package, without importing the package."""

import importlib.util
from pathlib import Path


def package_path(address: str) -> Path | None:
    """Path of IMPORT_NAME/path, whether or not it exists; None without such a package."""
    package, _, inside = address.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / inside
