"""The command line `persyn`: all commands, known errors as one message, interruptions in order.

Only what a command needs is imported, inside the command: `persyn --help` loads neither torch nor
ray.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from persyn_ray import __version__
from persyn_ray.cli import (
    check,
    export,
    importers,
    inspect,
    lab,
    push,
    recipe,
    route,
    run,
    screen,
    serve,
    version,
    view,
)
from persyn_ray.cli.shared import console
from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import DamagedError, PersynError
from persyn_ray.escaping import visible
from persyn_ray.signals import (
    INTERRUPTED,
    TERMINATED,
    is_terminated,
    keep_exit_code,
    take_sigterm,
)


def _options(
    short: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options before any command."""
    if short:
        console.print(f"persyn-ray {__version__}")
        raise typer.Exit


def _group(text: str, add_completion: bool = False) -> typer.Typer:
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
    )


def _application() -> typer.Typer:
    """All commands, in the order of `persyn --help`."""
    application = _group(
        "Send each prompt to the teacher your student will learn most from.", add_completion=True
    )
    application.callback(invoke_without_command=True)(_options)
    for command in (
        *(check.check, run.run, run.quickstart, run.compare, run.plan),
        *(inspect.status, inspect.report, inspect.explain),
        view.view,
        *(recipe.init, recipe.schema, screen.screen, version.version),
        *(export.export, push.push, route.route),
        *(serve.serve, serve.key),
        *(importers.import_gsm8k, importers.import_zoo, importers.import_parallel),
    ):
        application.command()(command)
    groups = {
        "lab": _group("The tiny trained world that the quickstart runs in."),
        "doctor": _group("Checks of this machine and of a run."),
    }
    groups["lab"].command("build")(lab.lab_build)
    groups["doctor"].command("scoring")(inspect.doctor_scoring)
    for name, group in groups.items():
        application.add_typer(group, name=name)
    return application


app = _application()


def _show_fault(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A fault of ours, which nobody foresaw: a traceback without secrets, as visible text."""
    told = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(visible(cut_secrets(told)))


def entry() -> None:
    """The `persyn` command: known errors are one message, without a traceback."""
    if (
        sys.getfilesystemencoding() != "utf-8"
    ):  # names and texts of files are UTF-8, here and in workers
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONUTF8": "1"})
    sys.excepthook = _show_fault
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode shows what it can
            stream.reconfigure(errors="replace")
    take_sigterm()
    sys.exit(guarded(app))


def guarded(command: Callable[[], Any]) -> int:
    """Carry out a command; returns its exit code, or ends with that of an interruption."""
    screen = Console(stderr=True)
    try:
        command()
    except PersynError as error:
        screen.print(Text.assemble((f"{type(error).__name__}: ", "bold red"), visible(error)))
        if isinstance(error, DamagedError):
            screen.print(
                "In a run, `persyn run RECIPE --verify` finds what is damaged and makes it anew. "
                "Elsewhere remove the file, and give the command again that made it."
            )
        return 1
    except SystemExit as ending:  # typer ends the process itself, also after Ctrl-C
        if ending.code != INTERRUPTED:
            raise
        keep_exit_code()
        screen.print("Interrupted. The same command goes on where this one stopped.")
        raise SystemExit(TERMINATED if is_terminated() else INTERRUPTED) from None
    return 0


if __name__ == "__main__":
    entry()
