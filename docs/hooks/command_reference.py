"""The command reference: the application behind `persyn` in, one Markdown page out."""

from collections.abc import Iterator
from typing import Any

import typer

from persyn_ray.cli.main import app


def command_reference() -> str:
    """All commands in the order of `persyn --help`."""
    return "\n\n".join(_page(name, command) for name, command in commands())


def commands() -> Iterator[tuple[str, Any]]:
    """Each command with its whole name, those of groups included."""
    yield from _below("persyn", typer.main.get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for part, one in inner.items():
        yield from _below(f"{name} {part}", one)


def _page(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join(
        [name, *(_usage(one) for one in arguments), *(["[options]"] if options else [])]
    )
    rows = [f"| `{_usage(one)}` | {_cell(one)} |" for one in arguments]
    rows += [
        f"| `{', '.join((*one.opts, *one.secondary_opts))}` | {_cell(one)} |" for one in options
    ]
    table = "\n".join(["| argument, option | |", "|---|---|", *rows]) if rows else ""
    return f"## {name.removeprefix('persyn ')}\n\n`{usage}`\n\n{_one_line(command.help)}\n\n{table}"


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _cell(parameter: Any) -> str:
    told = _one_line(getattr(parameter, "help", None))
    default = parameter.default
    is_told = default not in (None, False, "", (), []) and not callable(default)
    shown = getattr(default, "value", default)
    return f"{told} Default: `{shown}`." if is_told else told


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")
