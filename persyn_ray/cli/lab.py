"""`persyn lab`: the tiny trained world that the quickstart runs in."""

from pathlib import Path
from typing import Annotated

import typer


def lab_build(
    out: Annotated[Path, typer.Argument(help="Folder for the checkpoints.")] = Path("lab"),
    seed: Annotated[int, typer.Option(help="Seed of data and weights.")] = 0,
) -> None:
    """Train the lab's teachers and students anew (about half an hour on two cores)."""
    from persyn_ray.errors import ConfigError

    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder.")
    from persyn_ray.lab.build import build

    build(out, seed=seed)
