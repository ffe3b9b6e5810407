"""`persyn serve` and `key`: the router's endpoint and its API keys."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from persyn_ray.cli.shared import console, log_to_terminal
from persyn_ray.escaping import plain


def serve(
    source: Annotated[str, typer.Argument(help="A run folder, or a folder with a fitted router.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="serving.key=value, in place of the recipe's.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file with settings of `serving`.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 127.0.0.1 here, 0.0.0.0 (all) on a cluster."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    plain_proxy: Annotated[
        bool, typer.Option(help="Ray Serve's own proxy in place of HAProxy.")
    ] = False,
    verbose: Annotated[bool, typer.Option(help="Show the replicas' logs.")] = False,
) -> None:
    """Serve a run's router: who should answer this prompt? With a page to try it."""
    from persyn_ray.runtime.serve_command import Address, is_local, start, wait
    from persyn_ray.serving.router_source import read_settings, settings_of, with_a_key

    log_to_terminal(verbose)
    given = read_settings(settings) if settings is not None else {}
    router, chosen = settings_of(source, given, tuple(overrides or ()))
    # A cluster's replicas have keys of their own environment, and keep those they have.
    chosen, key = with_a_key(chosen) if is_local() else (chosen, None)
    address = Address(host or ("127.0.0.1" if is_local() else "0.0.0.0"), port)
    start(router, chosen, address, plain_proxy, verbose)
    console.print(plain(f"\nRouter {router}\nserves at {address.url}"))
    if key is not None:
        console.print(f"API key made for this time: {key}", highlight=False, soft_wrap=True)
    wait()


def key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make an API key for the endpoint: the key itself, and the line that lets it in."""
    from persyn_ray.serving.middleware.api_keys import new_key

    made, digest = new_key()
    typer.echo(f"{made}\n{name}:{digest}")
    note = "The first line is for the client and shown only now; the second for serving.keys_file."
    Console(stderr=True).print(note)
