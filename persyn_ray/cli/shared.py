"""What the commands of `persyn` share: console, arguments, logging."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from persyn_ray.credentials import cut_secrets
from persyn_ray.escaping import plain, visible_logs

console = Console()

RecipePath = Annotated[Path, typer.Argument(help="A recipe (YAML).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="section.key=value, in place of what the recipe says.")
]
RunFolder = Annotated[str, typer.Argument(help="A run folder.")]
Verbose = Annotated[bool, typer.Option(help="Show the workers' logs.")]


def linked(text: str, address: str) -> Text:
    """An address that a terminal may open; remote ones are only shown."""
    link = "" if "://" in address else f"link {Path(address).absolute().as_uri()}"
    return Text.assemble(plain(text), plain(address, link))


def log_to_terminal(verbose: bool) -> None:
    """Log to the terminal; libraries put addresses into their lines, with what may be in them."""
    visible_logs(logging.INFO if verbose else logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_cut_record)


def _cut_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = cut_secrets(record.getMessage()), None
    return True
