"""Asks a router's endpoint where prompts go.

persyn serve runs/route-table/router          # prints its address and a key; see route_table.py
PERSYN_API_KEY=… python examples/ask_endpoint.py http://127.0.0.1:8000
"""

import sys

import persyn_ray as persyn

PROMPTS = ["sum 3 4", [{"role": "user", "content": "flip gzc"}]]


def main(address: str = "http://127.0.0.1:8000") -> None:
    """Print a route for each prompt."""
    with persyn.RouterClient(address) as router:
        for prompt, route in zip(PROMPTS, router.route(PROMPTS), strict=True):
            print(f"{prompt!r} -> {route.teacher} (margin {route.margin})")


if __name__ == "__main__":
    main(*sys.argv[1:])
