"""`persyn view`: a run in the browser, while it goes on and afterwards."""

from typing import Annotated

import typer

from persyn_ray.cli.shared import RunFolder, console, log_to_terminal
from persyn_ray.escaping import plain


def view(
    run_folder: RunFolder,
    host: Annotated[
        str, typer.Option(help="Address to listen on; whoever reaches it can read the run.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes 8265, or a free one if it is taken.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the browser.")] = False,
    verbose: Annotated[bool, typer.Option(help="Show every request.")] = False,
) -> None:
    """Look at a run in the browser: prompts, responses, teachers, progress. Reads only."""
    import webbrowser

    from persyn_ray.view.app import create_app
    from persyn_ray.view.guard import is_loopback
    from persyn_ray.view.server import listening, serve, url_of

    log_to_terminal(verbose)
    app = create_app(run_folder, is_loopback(host))
    with listening(host, port) as bound:
        url = url_of(host, bound)
        console.print(plain(f"Run {run_folder}\nis shown at {url}   (Ctrl-C ends it)"))
        if not is_loopback(host):
            console.print("Without a password: everybody who reaches this address can read it.")
        serve(app, bound, (lambda: webbrowser.open_new_tab(url)) if not no_open else None, verbose)
