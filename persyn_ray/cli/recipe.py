"""`persyn init` and `schema`: start a recipe."""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from persyn_ray.cli.shared import console
from persyn_ray.errors import ConfigError
from persyn_ray.escaping import plain

FLAGS = {"--prompts": "a file", "--teacher": "KIND:MODEL, twice", "--student": "a model"}


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    prompts: Annotated[
        str | None, typer.Option(help="Parquet, jsonl, json, csv or tsv file with prompts.")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="openai:MODEL, vllm:MODEL or transformers:MODEL; repeat it."),
    ] = None,
    student: Annotated[str | None, typer.Option(help="The model that is tuned.")] = None,
    column: Annotated[
        str | None, typer.Option(help="Column with the prompt; found if not given.")
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="Address of the openai teachers; one for all, or one each."),
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the endpoints' key.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest response of teachers and student, in tokens.")
    ] = 1024,
) -> None:
    """Write a commented recipe: for your prompts and models, or a template without flags."""
    if prompts is None and not teacher and student is None:
        template = files("persyn_ray.recipe").joinpath("template.yaml").read_bytes()
        _write(path, template)
        console.print(plain(f"Wrote {path}. `persyn plan {path}` says what it will do."))
        return
    from persyn_ray.pipeline.check.stack import gpus
    from persyn_ray.pipeline.new_recipe.look import look_at
    from persyn_ray.pipeline.new_recipe.write import Choices, recipe_text

    source, teachers, tuned = _completed(prompts, teacher or [], student)
    looked = look_at(source, column)
    has_gpus = bool(gpus())
    urls = tuple(base_url or ())
    choices = Choices(tuple(teachers), tuned, urls, api_key_env, has_gpus, max_tokens)
    text = recipe_text(looked, choices)
    _write(path, text.encode())
    reference = looked.reference_column or "none found"
    console.print(
        plain(
            f"{looked.num_prompts:,} prompts in column {looked.column!r}; right answers: "
            f"{reference}; tasks: {looked.task_column or 'none found'}.\n"
            f"Wrote {path}. `persyn check {path}` tries all of it before money is spent."
        )
    )


def _completed(
    prompts: str | None, teachers: list[str], student: str | None
) -> tuple[str, list[str], str]:
    """What flags do not say, asked for on a terminal.

    Raises:
        ConfigError: there is no terminal to ask on.
    """
    given = {"--prompts": prompts, "--teacher": teachers, "--student": student}
    missing = [flag for flag, value in given.items() if not value]
    if missing and not sys.stdin.isatty():
        told = " and ".join(f"{flag} ({FLAGS[flag]})" for flag in missing)
        raise ConfigError(f"`persyn init` with flags needs {told}, too.")
    source = prompts or typer.prompt("File with prompts")
    if not teachers:
        console.print("Teachers as openai:MODEL, vllm:MODEL or transformers:MODEL; two at least.")
        while name := typer.prompt(f"Teacher {len(teachers) + 1} (none to go on)", default=""):
            teachers.append(name)
    return source, teachers, student or typer.prompt("Student", default="Qwen/Qwen2.5-0.5B")


def _write(path: Path, content: bytes) -> None:
    """Write a new file.

    Raises:
        ConfigError: it is there already, or its folder cannot be written to.
    """
    from persyn_ray.storage import atomic_files

    with atomic_files.writing_to(path):
        if not atomic_files.create(str(path.absolute()), content):
            raise ConfigError(f"{path} is there already; choose another name.")


def schema() -> None:
    """Print the recipe's JSON schema, for editors."""
    from persyn_ray.recipe.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))
