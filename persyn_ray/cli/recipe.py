"""`persyn init` and `schema`: start a recipe."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from persyn_ray.cli.shared import console
from persyn_ray.escaping import plain


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
) -> None:
    """Write a short commented recipe to start from."""
    from persyn_ray.errors import ConfigError
    from persyn_ray.storage import atomic_files

    template = files("persyn_ray.recipe").joinpath("template.yaml").read_bytes()
    with atomic_files.writing_to(path):
        if not atomic_files.create(str(path.absolute()), template):
            raise ConfigError(f"{path} is there already; choose another name.")
    console.print(plain(f"Wrote {path}. `persyn plan {path}` says what it will do."))


def schema() -> None:
    """Print the recipe's JSON schema, for editors."""
    from persyn_ray.recipe.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))
