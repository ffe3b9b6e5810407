"""Jinja environment of the report's templates: strict, with the filters that write numbers."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from persyn_ray.report import numbers

FILTERS = ("count", "number", "signed", "percent", "interval", "seconds", "rate", "estimate")


def report_environment(autoescape: bool = True) -> Environment:
    """The set-up of all templates of this folder.

    Args:
        autoescape: off for Markdown, which has filters of its own.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in FILTERS:
        environment.filters[name] = getattr(numbers, name)
    return environment
