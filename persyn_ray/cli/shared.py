"""What the commands of `persyn` share: console, arguments, logging."""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from persyn_ray.credentials import cut_secrets
from persyn_ray.escaping import VisibleFormatter, json_text, plain, visible_logs

console = Console()


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys that an override may name, for the shell; the teachers are those of the recipe."""
    import yaml

    from persyn_ray.recipe.reading.complaints import paths_of
    from persyn_ray.recipe.reading.overrides import completed
    from persyn_ray.recipe.recipe import Recipe

    data = None
    with suppress(OSError, TypeError, ValueError, yaml.YAMLError):
        data = yaml.safe_load(Path(ctx.params.get("recipe") or "").read_text(encoding="utf-8"))
    return completed(data, list(paths_of(Recipe)), incomplete)


RecipePath = Annotated[Path, typer.Argument(help="A recipe (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="section.key=value, in place of what the recipe says.",
        autocompletion=complete_override,
    ),
]
RunFolder = Annotated[str, typer.Argument(help="A run folder.")]
Verbose = Annotated[bool, typer.Option(help="Show the workers' logs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_json(value: Any) -> None:
    """Print a value as JSON in which no character acts on a terminal."""
    typer.echo(json_text(json.dumps(value, indent=2, ensure_ascii=False)))


def linked(text: str, address: str) -> Text:
    """An address that a terminal may open; remote ones are only shown."""
    link = "" if "://" in address else f"link {Path(address).absolute().as_uri()}"
    return Text.assemble(plain(text), plain(address, link))


def log_to_terminal(verbose: bool) -> None:
    """Log to the terminal; libraries put addresses into their lines, with what may be in them."""
    visible_logs(logging.INFO if verbose else logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_cut_record)
        if not verbose:  # who reads it knows no modules
            handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))


def _cut_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = cut_secrets(record.getMessage()), None
    return True
